//! [`Arguments`]: the command line.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use buttress_http::context::Trust;

use crate::supervise::{Restart, Rules};

/// The text that explains the command line.
pub(crate) const USE: &str = "\
usage: sidecar --listen ADDRESS --to URL [OPTIONS] -- COMMAND [ARGUMENT]...

Starts COMMAND, restarts it when it ends, and passes requests on to it.

  --listen ADDRESS      the address for clients, e.g. 127.0.0.1:8080
  --to URL              the URL of the service that COMMAND starts, e.g. http://127.0.0.1:8001
  --config FILE         the limits of the proxy, as TOML; see examples/sidecar/sidecar.toml
  --trust NETWORKS      the callers whose trace, correlation id, deadline and X-Forwarded-For the service gets, e.g.
                        10.0.0.0/8,127.0.0.1/32, or none; default: loopback and private networks
  --admin ADDRESS       the address of /health, /live, /ready, /startup and /metrics
  --restart WHEN        never, on-failure or always; default: on-failure
  --stop-limit TIME     from the signal to stop until SIGKILL, e.g. 25s or 500ms; default: 30s

An end with code 0 is a success; `always` restarts the command even then. The first restart comes after 100 ms, and
each further one after twice the time, up to 10 s. The sixth failure within 60 s ends the sidecar, with the code of the
command, or with 128 and the number of its signal.";

/// The networks of `--trust` unless it is given. The callers of a sidecar are other services of the same system.
const INTERNAL: &str = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,::1/128,fc00::/7";

/// The command line.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub listen: String,
    pub to: String,
    pub admin: Option<String>,
    pub config: Option<PathBuf>,
    pub trust: Trust,
    pub rules: Rules,
    pub command: OsString,
    pub rest: Vec<OsString>,
}

/// A command line that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unusable(String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Arguments {
    /// Reads the arguments without the name of the program.
    pub(crate) fn parse(given: Vec<OsString>) -> Result<Self, Unusable> {
        let mut given = given.into_iter();
        let (mut listen, mut to, mut admin, mut config) = (None, None, None, None);
        let (mut restart, mut stop_limit, mut trust) = (None, None, None);
        loop {
            let Some(option) = given.next() else {
                return Err(Unusable(String::from("no command: put it after `--`")));
            };
            let option = option.to_string_lossy().into_owned();
            let place = match option.as_str() {
                "--" => break,
                "--listen" => &mut listen,
                "--to" => &mut to,
                "--admin" => &mut admin,
                "--config" => &mut config,
                "--trust" => &mut trust,
                "--restart" => &mut restart,
                "--stop-limit" => &mut stop_limit,
                _ => return Err(Unusable(format!("unknown option `{option}`"))),
            };
            let value = given.next().filter(|value| value != "--");
            let value = value.ok_or_else(|| Unusable(format!("`{option}` has no value")))?;
            if place.replace(value).is_some() {
                return Err(Unusable(format!("`{option}` is given twice")));
            }
        }
        let command = given.next().filter(|command| !command.is_empty());
        let command =
            command.ok_or_else(|| Unusable(String::from("no command: put it after `--`")))?;
        let mut rules = Rules::default();
        if let Some(word) = restart {
            rules.restart = restart_of(&text("--restart", word)?)?;
        }
        if let Some(time) = stop_limit {
            rules.stop_limit = duration_of("--stop-limit", &text("--stop-limit", time)?)?;
        }
        let needed = |option: &str, value: Option<OsString>| match value {
            Some(value) => text(option, value),
            None => Err(Unusable(format!("`{option}` is missing"))),
        };
        Ok(Self {
            listen: needed("--listen", listen)?,
            to: needed("--to", to)?,
            admin: admin.map(|value| text("--admin", value)).transpose()?,
            config: config.map(PathBuf::from),
            trust: match trust {
                Some(networks) => trust_of(&text("--trust", networks)?)?,
                None => trust_of(INTERNAL)?,
            },
            rules,
            command,
            rest: given.collect(),
        })
    }
}

fn text(option: &str, value: OsString) -> Result<String, Unusable> {
    value.into_string().map_err(|_| Unusable(format!("the value of `{option}` is not UTF-8")))
}

fn trust_of(networks: &str) -> Result<Trust, Unusable> {
    if networks == "none" {
        return Ok(Trust::None);
    }
    Trust::networks(networks.split(',')).map_err(|error| {
        let value = error.value();
        Unusable(format!("`--trust {value}`: must be networks such as 10.0.0.0/8, or none"))
    })
}

fn restart_of(word: &str) -> Result<Restart, Unusable> {
    match word {
        "never" => Ok(Restart::Never),
        "on-failure" => Ok(Restart::OnFailure),
        "always" => Ok(Restart::Always),
        _ => Err(Unusable(format!("`--restart {word}`: must be never, on-failure or always"))),
    }
}

/// Reads whole seconds or milliseconds, such as `25s` or `500ms`.
fn duration_of(option: &str, text: &str) -> Result<Duration, Unusable> {
    let refused = || Unusable(format!("`{option} {text}`: must be a time such as 25s or 500ms"));
    let (number, unit): (&str, fn(u32) -> Duration) = match text.strip_suffix("ms") {
        Some(number) => (number, |number| Duration::from_millis(number.into())),
        None => (text.strip_suffix('s').ok_or_else(refused)?, |number| {
            Duration::from_secs(number.into())
        }),
    };
    // `parse` would also accept a sign.
    let number = if number.starts_with('+') { "" } else { number };
    number.parse().map(unit).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, Unusable> {
        Arguments::parse(line.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn everything_after_the_two_dashes_is_the_command() {
        let line =
            "--listen a:1 --to http://b:2 --restart always --stop-limit 500ms -- run --to x -- y";
        let arguments = parse(line).unwrap();
        assert_eq!((arguments.listen.as_str(), arguments.to.as_str()), ("a:1", "http://b:2"));
        assert_eq!(arguments.rules.restart, Restart::Always);
        assert_eq!(arguments.rules.stop_limit, Duration::from_millis(500));
        assert_eq!(arguments.command, "run");
        assert_eq!(arguments.rest, ["--to", "x", "--", "y"]);
        assert_eq!((arguments.admin, arguments.config), (None, None));
    }

    #[test]
    fn without_options_a_failure_restarts_and_a_stop_takes_30_seconds() {
        let arguments = parse("--listen a:1 --to http://b:2 -- run").unwrap();
        assert_eq!(arguments.rules.restart, Restart::OnFailure);
        assert_eq!(arguments.rules.stop_limit, Duration::from_secs(30));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, expected) in [
            ("--listen a:1 --to http://b:2", "no command: put it after `--`"),
            ("--listen a:1 --to http://b:2 --", "no command: put it after `--`"),
            ("--to http://b:2 -- run", "`--listen` is missing"),
            ("--listen a:1 -- run", "`--to` is missing"),
            ("--listen a:1 --to -- run", "`--to` has no value"),
            ("--listen a:1 --listen b:1 -- run", "`--listen` is given twice"),
            ("--lissen a:1 -- run", "unknown option `--lissen`"),
            (
                "--listen a:1 --to b --trust 10.0.0.0/33 -- run",
                "`--trust \"10.0.0.0/33\"`: must be networks such as 10.0.0.0/8, or none",
            ),
            ("run", "unknown option `run`"),
            (
                "--listen a:1 --to b --restart often -- run",
                "`--restart often`: must be never, on-failure or always",
            ),
            (
                "--listen a:1 --to b --stop-limit 5 -- run",
                "`--stop-limit 5`: must be a time such as 25s or 500ms",
            ),
            (
                "--listen a:1 --to b --stop-limit +5s -- run",
                "`--stop-limit +5s`: must be a time such as 25s or 500ms",
            ),
            (
                "--listen a:1 --to b --stop-limit 99999999999s -- run",
                "`--stop-limit 99999999999s`: must be a time such as 25s or 500ms",
            ),
        ] {
            assert_eq!(parse(line).unwrap_err().to_string(), expected, "{line}");
        }
    }
}
