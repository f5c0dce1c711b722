//! This program as a child process: it handles messages, and is killed.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use buttress::Clock;
use buttress_durable::consume::{Config, Consumer, Delivery, MemoryDeadLetters};
use buttress_kafka::{Kafka, Subscribe, Topic};
use tower::{BoxError, service_fn};

use crate::cluster::{Cluster, fresh};
use crate::handled::Handled;

/// Says what a child does. Without it, this program is not a child.
const DUTY: &str = "BUTTRESS_KAFKA_CHILD";

/// Child processes that handle messages, and the file of their calls. They are killed when this is dropped.
pub(crate) struct Children {
    children: Vec<Child>,
    calls: PathBuf,
    duty: String,
}

impl Children {
    pub(crate) fn new(cluster: &Cluster, topic: &str, partitions: i32) -> Self {
        let calls = std::env::temp_dir().join(fresh("calls"));
        let (brokers, session) = (&cluster.brokers, cluster.session().as_secs());
        let duty = format!("{brokers}\n{topic}\n{partitions}\n{}\n{session}", calls.display());
        Self { children: Vec::new(), calls, duty }
    }

    pub(crate) fn start(&mut self) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child::a_child_handles_messages", "--nocapture"]);
        command.env(DUTY, &self.duty).stdin(Stdio::piped()).stdout(Stdio::null());
        self.children.push(command.spawn().unwrap());
    }

    /// Kills the oldest child with SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let mut child = self.children.remove(0);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Lets the oldest child leave its group in order, and waits until it is gone.
    pub(crate) fn dismiss(&mut self) {
        let mut child = self.children.remove(0);
        // The end of its input.
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }

    /// Returns the calls of all children, in their order.
    pub(crate) fn handled(&self) -> Handled {
        let text = std::fs::read_to_string(&self.calls).unwrap_or_default();
        // A call that is being written has no end of line yet.
        let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let call = |line: &str| {
            let (key, payload) = line.split_once(' ').unwrap();
            (key.to_owned(), payload.to_owned())
        };
        Handled::of(lines.map(call).collect())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ended = child.kill();
            let _ended = child.wait();
        }
        let _removed = std::fs::remove_file(&self.calls);
    }
}

#[tokio::test]
async fn a_child_handles_messages() {
    // A part of other tests: alone it has nothing to do.
    let Ok(duty) = std::env::var(DUTY) else { return };
    let duty: Vec<&str> = duty.lines().collect();
    let topic = Topic::new(duty[1]).partitions(duty[2].parse().unwrap());
    let session = Duration::from_secs(duty[4].parse().unwrap());
    let group = Subscribe::new(topic.name()).session(session);
    let source = Kafka::new(duty[0]).subscribe(&topic, group).await.unwrap();
    let calls = Path::new(duty[3]).to_owned();
    let handler = service_fn(move |delivery: Delivery| {
        let calls = calls.clone();
        async move {
            Clock::default().sleep(Duration::from_millis(2)).await;
            let payload = String::from_utf8_lossy(delivery.payload());
            let mut file = OpenOptions::new().append(true).create(true).open(calls)?;
            // One write: lines of several processes do not mix.
            file.write_all(format!("{} {payload}\n", delivery.key()).as_bytes())?;
            Ok::<(), BoxError>(())
        }
    });
    let letters = MemoryDeadLetters::new(Clock::default());
    let consumer = Consumer::new(source, handler, Config::new()).unwrap();
    let consumer = consumer.dead_letters(letters).spawn();
    let input = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    input.await.unwrap().unwrap();
    consumer.shut_down().await;
}
