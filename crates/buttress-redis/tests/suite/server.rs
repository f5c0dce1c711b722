//! The Redis of the tests.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use buttress::{Clock, Rng};
use buttress_redis::Redis;
use buttress_redis::streams::{Publisher, RedisSource, SourceConfig, Topic, Trim};
use buttress_sim::TcpProxy;
use redis::aio::MultiplexedConnection;

/// Returns the URL of a server that runs already, if there is one. Without it a test is skipped with a line of output,
/// unless `BUTTRESS_REQUIRE_SERVICES=1` makes that a failure.
pub(crate) async fn redis_url(test: &str) -> Option<String> {
    let url = std::env::var("BUTTRESS_REDIS_URL");
    let url = url.unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let Err(why) = connect(&url).await else { return Some(url) };
    skip(test, &why.to_string());
    None
}

fn skip(test: &str, why: &str) {
    let required = std::env::var("BUTTRESS_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
    assert!(!required, "Redis is required, and is unavailable: {why}");
    println!("skipped {test} on Redis: {why}");
}

/// Returns a connection for a test's own commands, within a time that a busy machine does not miss.
pub(crate) async fn connect(url: &str) -> redis::RedisResult<MultiplexedConnection> {
    let client = redis::Client::open(url)?;
    let connecting = client.get_multiplexed_async_connection();
    tokio::time::timeout(Duration::from_secs(20), connecting)
        .await
        .map_err(|_| redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))?
}

/// Returns a name that no other test has.
pub(crate) fn fresh(what: &str) -> String {
    format!("test-{what}-{:016x}", Rng::default().next_u64())
}

pub(crate) fn topic(name: &str, shards: u16) -> Topic {
    Topic::new(name).unwrap().shards(shards).unwrap()
}

/// Removes every key whose name contains `part`.
pub(crate) async fn remove(url: &str, part: &str) {
    let mut connection = connect(url).await.unwrap();
    let mut ask = redis::cmd("KEYS");
    let keys: Vec<String> =
        ask.arg(format!("*{part}*")).query_async(&mut connection).await.unwrap();
    if !keys.is_empty() {
        let _: i64 = redis::cmd("DEL").arg(keys).query_async(&mut connection).await.unwrap();
    }
}

/// Waits until `is_met` is true.
pub(crate) async fn until(what: &str, mut is_met: impl AsyncFnMut() -> bool) {
    let clock = Clock::default();
    let begun = clock.now();
    while !is_met().await {
        let waited = clock.now() - begun;
        assert!(waited < Duration::from_secs(60), "{what}: not within {waited:?}");
        clock.sleep(Duration::from_millis(5)).await;
    }
}

/// A topic of one test on the server that runs already.
pub(crate) struct Scene {
    pub url: String,
    pub name: String,
    pub redis: Redis,
    pub topic: Topic,
}

impl Scene {
    /// Returns the scene of a test, if there is a server.
    pub(crate) async fn of(test: &str, shards: u16) -> Option<Self> {
        Some(Self::at(redis_url(test).await?, shards))
    }

    pub(crate) fn at(url: String, shards: u16) -> Self {
        let name = fresh("topic");
        let (redis, topic) = (at(&url), topic(&name, shards));
        Self { url, name, redis, topic }
    }

    pub(crate) async fn publisher(&self, trim: Trim) -> Publisher {
        self.redis.publisher(self.topic.clone(), trim).await.unwrap()
    }

    /// Joins a group with a lease of three seconds, which a busy machine rarely misses.
    pub(crate) async fn source(&self, group: &str) -> RedisSource {
        let config = SourceConfig::new().lease(Duration::from_secs(3));
        self.redis.source(self.topic.clone(), group, config).await.unwrap()
    }

    /// Joins the group `billing` through a proxy, with a lease of one second.
    pub(crate) async fn source_through(&self, proxy: &TcpProxy) -> RedisSource {
        let config = SourceConfig::new().lease(Duration::from_secs(1));
        let redis = at(&format!("redis://{}", proxy.address()));
        redis.source(self.topic.clone(), "billing", config).await.unwrap()
    }

    /// A proxy in front of the server, whose connections a test cuts.
    pub(crate) fn proxy(&self) -> TcpProxy {
        let address = self.url.trim_start_matches("redis://").trim_end_matches('/');
        TcpProxy::to(address.parse().unwrap()).unwrap()
    }

    pub(crate) fn stream(&self) -> String {
        format!("{{{}}}:0", self.name)
    }

    pub(crate) async fn length(&self) -> usize {
        self.ask(&["XLEN", &self.stream()]).await
    }

    /// Runs a command of the test's own.
    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut cmd = redis::Cmd::new();
        cmd.arg(words).query_async(&mut connect(&self.url).await.unwrap()).await.unwrap()
    }

    /// Removes the keys of the topic.
    pub(crate) async fn end(&self) {
        remove(&self.url, &self.name).await;
    }
}

/// A server that a test starts, kills and starts again on the same data.
pub(crate) struct Server {
    port: u16,
    folder: PathBuf,
    extra: Vec<String>,
    process: Option<Child>,
}

impl Server {
    /// Starts a server, unless there is no program `redis-server`.
    pub(crate) async fn start(test: &str, extra: &[&str]) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(fresh("redis"));
        std::fs::create_dir_all(&folder).unwrap();
        let extra = extra.iter().map(|word| (*word).to_owned()).collect();
        let mut server = Self { port, folder, extra, process: None };
        if let Err(why) = server.run().await {
            skip(test, &why.to_string());
            return None;
        }
        Some(server)
    }

    /// Starts the server again.
    pub(crate) async fn run(&mut self) -> std::io::Result<()> {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--save", "", "--appendonly", "yes"]);
        command.args(["--appendfsync", "always", "--dir"]).arg(&self.folder).args(&self.extra);
        self.process = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        let url = self.url();
        until("the server answers", async || {
            let asked = async {
                let mut connection = connect(&url).await?;
                redis::cmd("PING").query_async::<redis::Value>(&mut connection).await
            };
            match asked.await {
                // While it loads its data, a new connection is taken, and a command is refused.
                Ok(_) => true,
                // It answers, and wants a password.
                Err(error) => {
                    error.code() == Some("NOAUTH")
                        || error.kind() == redis::ErrorKind::AuthenticationFailed
                }
            }
        })
        .await;
        Ok(())
    }

    /// Kills the server with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn at(url: &str) -> Redis {
    Redis::new(url).unwrap()
}
