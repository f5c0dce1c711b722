//! This program as a child process: it limits calls or handles messages, and is killed.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use buttress::{Clock, VirtualClock};
use buttress_durable::consume::{self, Consumer, Delivery, MemoryDeadLetters};
use buttress_redis::rate_limit::Config;
use buttress_redis::streams::SourceConfig;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tower::{BoxError, service_fn};

use crate::limits::take;
use crate::server::{at, connect, topic};

/// Says what a child does. Without it, this program is not a child.
const DUTY: &str = "BUTTRESS_REDIS_CHILD";
/// In front of each line that a child reports, because the harness prints too.
const MARK: &str = "child: ";

pub(crate) type Values = [(&'static str, String)];

/// Child processes. They are killed when this is dropped.
#[derive(Default)]
pub(crate) struct Children(Vec<Child>);

impl Children {
    pub(crate) fn start(&mut self, duty: &str, url: &str, values: &Values) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child::a_child_does_its_duty", "--nocapture"]);
        let text: Vec<_> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
        command.env(DUTY, format!("{duty}\n{url}\n{}", text.join("\n")));
        command.stdout(Stdio::piped()).kill_on_drop(true);
        self.0.push(command.spawn().unwrap());
    }

    /// Kills a child with SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(&mut self, at: usize) {
        let mut child = self.0.remove(at);
        child.kill().await.unwrap();
    }

    /// Waits until the children end, and returns what they reported.
    pub(crate) async fn lines(self) -> Vec<String> {
        let mut lines = Vec::new();
        for mut child in self.0 {
            let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
            while let Some(line) = output.next_line().await.unwrap() {
                // The harness may have begun the line.
                lines.extend(line.split_once(MARK).map(|(_, line)| line.to_owned()));
            }
            assert!(child.wait().await.unwrap().success());
        }
        lines
    }
}

#[tokio::test]
async fn a_child_does_its_duty() {
    // A part of other tests: alone it has nothing to do.
    let Ok(duty) = std::env::var(DUTY) else { return };
    let mut lines = duty.lines();
    let (duty, url) = (lines.next().unwrap(), lines.next().unwrap());
    let values: BTreeMap<_, _> = lines.map(|line| line.split_once('=').unwrap()).collect();
    let number = |name: &str| values[name].parse::<u32>().unwrap();
    match duty {
        "limit" => {
            let time = VirtualClock::new();
            time.advance(Duration::from_secs(number("skew").into()));
            let millis = Duration::from_millis(number("millis").into());
            let config = Config::new(values["name"].to_owned());
            let config = config.max_tokens(number("max")).refill(number("refill"), millis);
            let config = config.call_limit(Duration::from_secs(60));
            let handle = at(url).clock(time.clock()).rate_limit(config).unwrap().handle();
            let passed = take(&handle, "a", number("calls") as usize, 16).await;
            assert_eq!(handle.stats().without_redis, 0);
            println!("{MARK}{passed}");
        }
        "consume" => consume(url, &values).await,
        other => panic!("{other}"),
    }
}

/// Handles messages until this process is killed. An effect and its receipt are one step.
async fn consume(url: &str, values: &BTreeMap<&str, &str>) {
    let lease = Duration::from_millis(values["lease"].parse().unwrap());
    let (name, hangs) = (values["name"], values["hangs"] == "1");
    let topic = topic(name, values["shards"].parse().unwrap());
    let config = SourceConfig::new().lease(lease);
    let source = at(url).source(topic, "billing", config).await.unwrap();
    let connection = connect(url).await.unwrap();
    let keys = ["receipts", "effects", "calls"].map(|what| format!("{name}:{what}"));
    let script = "redis.call('RPUSH', KEYS[3], ARGV[1]) \
        if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then redis.call('RPUSH', KEYS[2], ARGV[1]) end";
    let handler = service_fn(move |delivery: Delivery| {
        let mut connection = connection.clone();
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(script).arg(3).arg(&keys).arg(delivery.payload());
        async move {
            let _: redis::Value = cmd.query_async(&mut connection).await?;
            if hangs {
                std::future::pending::<()>().await;
            }
            Clock::default().sleep(Duration::from_millis(2)).await;
            Ok::<(), BoxError>(())
        }
    });
    let letters = MemoryDeadLetters::new(Clock::default());
    Consumer::new(source, handler, consume::Config::new())
        .unwrap()
        .dead_letters(letters)
        .run()
        .await;
}
