//! The NATS of the tests: the server of the machine, and servers that a test starts itself.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use buttress::{Clock, Rng};
use buttress_nats::async_nats::ConnectOptions;
use buttress_nats::async_nats::jetstream::context::GetStreamErrorKind;
use buttress_nats::async_nats::jetstream::stream::Stream;
use buttress_nats::{Nats, Publish, Publisher, Subscribe, Subscription, Topic};

/// Returns a connection to the server of the machine, if there is one. Without it a test is skipped with a line of
/// output, unless `BUTTRESS_REQUIRE_SERVICES=1` makes that a failure.
pub(crate) async fn nats(test: &str) -> Option<Nats> {
    let address = address();
    let why = match Nats::connect(&address, ConnectOptions::new()).await {
        Ok(nats) => return Some(nats),
        Err(error) => error,
    };
    assert!(!is_required(), "NATS is required, and is unavailable: {why}");
    println!("skipped {test} on NATS: {why}");
    None
}

pub(crate) fn address() -> String {
    std::env::var("BUTTRESS_NATS_URL").unwrap_or_else(|_| "127.0.0.1:4222".to_owned())
}

fn is_required() -> bool {
    std::env::var("BUTTRESS_REQUIRE_SERVICES").is_ok_and(|value| value == "1")
}

/// Returns a name that no other test has.
pub(crate) fn fresh(what: &str) -> String {
    format!("buttress_{what}_{:016x}", Rng::default().next_u64())
}

/// A topic that no other test has. [`remove`](Self::remove) removes its streams.
pub(crate) struct Fresh {
    pub topic: Topic,
    pub name: String,
    pub nats: Nats,
}

impl Fresh {
    /// Returns the topic of a test on the server of the machine, if there is one.
    pub(crate) async fn of(test: &str, shards: u16) -> Option<Self> {
        let fresh = Self::new(&nats(test).await?, "topic");
        Some(Self { topic: fresh.topic.clone().shards(shards), ..fresh })
    }

    pub(crate) fn new(nats: &Nats, what: &str) -> Self {
        let name = fresh(what);
        Self { topic: Topic::new(&name), name, nats: nats.clone() }
    }

    pub(crate) async fn publisher(&self) -> Publisher {
        self.nats.publisher(&self.topic, Publish::new()).await.unwrap()
    }

    pub(crate) async fn member(&self, settings: Subscribe) -> Subscription {
        self.nats.subscribe(&self.topic, settings).await.unwrap()
    }

    pub(crate) async fn stream(&self) -> Stream {
        let jetstream = buttress_nats::async_nats::jetstream::new(self.nats.client());
        jetstream.get_stream(&self.name).await.unwrap()
    }

    /// Returns how many messages of shard 0 the group `billing` has received and not settled.
    pub(crate) async fn unsettled(&self) -> usize {
        self.stream().await.consumer_info("billing-0").await.unwrap().num_ack_pending
    }

    pub(crate) async fn remove(&self) {
        let jetstream = buttress_nats::async_nats::jetstream::new(self.nats.client());
        let _missing = jetstream.delete_stream(&self.name).await;
        let _missing = jetstream.delete_stream(format!("{}-groups", self.name)).await;
    }
}

/// A server that a test starts, stops and kills itself.
pub(crate) struct Server {
    process: Child,
    pub port: u16,
    directory: PathBuf,
}

impl Server {
    /// Starts a server, if the program is installed.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        let server = Self::with(test, &[]).await?;
        server.ready().await;
        Some(server)
    }

    /// Starts a server with further arguments, and waits for its port.
    pub(crate) async fn with(test: &str, arguments: &[&str]) -> Option<Self> {
        let directory = std::env::temp_dir().join(fresh("server"));
        let port = free_port();
        match spawn(port, &directory, arguments) {
            Ok(process) => {
                let server = Self { process, port, directory };
                while std::net::TcpStream::connect(server.address()).is_err() {
                    Clock::default().sleep(Duration::from_millis(10)).await;
                }
                Some(server)
            }
            Err(error) => {
                assert!(!is_required(), "nats-server is required, and cannot be started: {error}");
                println!("skipped {test}: nats-server: {error}");
                None
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Stops the process of the server, or lets it continue.
    pub(crate) fn pause(&self, paused: bool) {
        let signal = if paused { "-STOP" } else { "-CONT" };
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Kills the server. Its files stay.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts the server again, on the same port and files.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(self.port, &self.directory, &[]).unwrap();
        self.ready().await;
    }

    async fn ready(&self) {
        for _ in 0..400 {
            if let Ok(nats) =
                Nats::connect(&self.address().to_string(), ConnectOptions::new()).await
            {
                let jetstream = buttress_nats::async_nats::jetstream::new(nats.client());
                // Any answer: JetStream is up.
                if let Err(error) = jetstream.get_stream("none").await
                    && matches!(error.kind(), GetStreamErrorKind::JetStream(_))
                {
                    return;
                }
            }
            Clock::default().sleep(Duration::from_millis(25)).await;
        }
        panic!("nats-server does not answer");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _ended = self.process.wait();
        let _removed = std::fs::remove_dir_all(&self.directory);
    }
}

fn spawn(port: u16, directory: &PathBuf, arguments: &[&str]) -> std::io::Result<Child> {
    let mut command = Command::new("nats-server");
    command
        .args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
        .arg(directory)
        .args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
