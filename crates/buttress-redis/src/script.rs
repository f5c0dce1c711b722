//! [`Script`]: a Lua script that Redis runs atomically.

use redis::Cmd;

/// A script and its hash.
#[derive(Debug)]
pub(crate) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }

    /// Returns the command that runs the script if Redis knows it.
    pub(crate) fn by_hash(&self, fill: impl Fn(&mut Cmd)) -> Cmd {
        filled("EVALSHA", &self.hash, fill)
    }

    /// Returns the command that carries the whole script, which Redis then knows.
    pub(crate) fn whole(&self, fill: impl Fn(&mut Cmd)) -> Cmd {
        filled("EVAL", self.text, fill)
    }
}

fn filled(name: &str, script: &str, fill: impl Fn(&mut Cmd)) -> Cmd {
    let mut cmd = redis::cmd(name);
    cmd.arg(script);
    fill(&mut cmd);
    cmd
}
