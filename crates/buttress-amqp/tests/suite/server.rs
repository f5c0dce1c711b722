//! The RabbitMQ of the tests: the server of the machine, and servers that a test starts itself.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use buttress::{Clock, Rng};
use buttress_amqp::lapin::{Connection, ConnectionProperties};
use buttress_amqp::{Rabbit, Topic};
use buttress_sim::TcpProxy;

/// Returns the server of the machine, if there is one. Without it a test is skipped with a line of output, unless
/// `BUTTRESS_REQUIRE_SERVICES=1` makes that a failure.
pub(crate) async fn rabbit(test: &str) -> Option<Rabbit> {
    let url = url();
    let why = match Connection::connect(&url, ConnectionProperties::default()).await {
        Ok(_connection) => return Some(at(&url)),
        Err(error) => error,
    };
    assert!(!is_required(), "RabbitMQ is required, and is unavailable: {why}");
    println!("skipped {test} on RabbitMQ: {why}");
    None
}

/// A limit that a busy machine does not miss.
pub(crate) fn at(url: &str) -> Rabbit {
    Rabbit::new(url).unwrap().limit(Duration::from_secs(20))
}

/// Returns a proxy in front of a server, whose connections a test cuts, and the server through the proxy.
pub(crate) fn proxy(url: &str) -> (TcpProxy, Rabbit) {
    let address = url.trim_start_matches("amqp://").split(['/', '@']).next_back().unwrap();
    let proxy = TcpProxy::to(address.parse().unwrap()).unwrap();
    let through = at(&format!("amqp://{}", proxy.address()));
    (proxy, through)
}

pub(crate) fn url() -> String {
    std::env::var("BUTTRESS_AMQP_URL").unwrap_or_else(|_| "amqp://127.0.0.1:5672".to_owned())
}

fn is_required() -> bool {
    std::env::var("BUTTRESS_REQUIRE_SERVICES").is_ok_and(|value| value == "1")
}

/// Returns a name that no other test has.
pub(crate) fn fresh(what: &str) -> String {
    format!("buttress_{what}_{:016x}", Rng::default().next_u64())
}

/// Returns a topic that no other test has.
pub(crate) fn topic(what: &str) -> (String, Topic) {
    let name = fresh(what);
    (name.clone(), Topic::new(name))
}

/// A server that a test starts and kills itself. The program of a package's folder is one process: the command of the
/// same name in `PATH` starts it as another user, out of the reach of a signal.
const PROGRAMS: [&str; 2] =
    ["/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/rabbitmq/sbin/rabbitmq-server"];

/// A server that a test starts, stops and kills itself.
pub(crate) struct Server {
    process: Child,
    port: u16,
    directory: PathBuf,
    configuration: String,
}

impl Server {
    /// Starts a server, if the program is installed. `configuration` has further lines of its configuration.
    pub(crate) async fn start(test: &str, configuration: &str) -> Option<Self> {
        let directory = std::env::temp_dir().join(fresh("server"));
        std::fs::create_dir_all(&directory).unwrap();
        let port = free_port();
        let configuration = configuration.to_owned();
        match spawn(port, &directory, &configuration) {
            Ok(process) => {
                let mut server = Self { process, port, directory, configuration };
                server.ready().await;
                Some(server)
            }
            Err(error) => {
                assert!(
                    !is_required(),
                    "rabbitmq-server is required, and cannot be started: {error}"
                );
                println!("skipped {test}: rabbitmq-server: {error}");
                std::fs::remove_dir_all(&directory).unwrap();
                None
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://{}", self.address())
    }

    /// Kills the server. Its files stay.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Ends the server in order, so that its files are whole.
    pub(crate) fn stop(&mut self) {
        let id = self.process.id().to_string();
        let told = std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(told.success());
        self.process.wait().unwrap();
    }

    /// Starts the server again, on the same port and files.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(self.port, &self.directory, &self.configuration).unwrap();
        self.ready().await;
    }

    async fn ready(&mut self) {
        let (clock, url) = (Clock::default(), self.url());
        for _ in 0..1200 {
            if Connection::connect(&url, ConnectionProperties::default()).await.is_ok() {
                return;
            }
            assert!(self.process.try_wait().unwrap().is_none(), "rabbitmq-server has ended");
            clock.sleep(Duration::from_millis(100)).await;
        }
        panic!("rabbitmq-server does not answer");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _ended = self.process.wait();
        let _removed = std::fs::remove_dir_all(&self.directory);
    }
}

fn spawn(port: u16, directory: &Path, configuration: &str) -> std::io::Result<Child> {
    let known = std::env::var("BUTTRESS_RABBITMQ_SERVER").ok();
    let installed = || PROGRAMS.into_iter().find(|program| Path::new(program).exists());
    let program = known.or_else(|| installed().map(str::to_owned));
    let missing =
        || std::io::Error::new(std::io::ErrorKind::NotFound, "the program is not installed");
    let program = program.ok_or_else(missing)?;
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).map(|()| path)
    };
    let listener = format!("listeners.tcp.local = 127.0.0.1:{port}\n{configuration}\n");
    let configuration = file("rabbitmq.conf", &listener)?;
    let (plugins, variables) = (file("enabled_plugins", "[].")?, file("rabbitmq-env.conf", "")?);
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let mut command = Command::new(program);
    command
        .env("RABBITMQ_NODENAME", format!("{name}@localhost"))
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", free_port().to_string())
        .env("RABBITMQ_MNESIA_BASE", directory.join("data"))
        .env("RABBITMQ_LOG_BASE", directory.join("log"))
        .env("RABBITMQ_CONFIG_FILE", configuration)
        .env("RABBITMQ_CONF_ENV_FILE", variables)
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
        .env("HOME", directory)
        // As under systemd: the program becomes the server, and no shell stands between.
        .env("NOTIFY_SOCKET", directory.join("none"))
        .env("ERL_EPMD_ADDRESS", "127.0.0.1");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
