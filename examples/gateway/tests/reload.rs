//! The program with a configuration file, and signals to it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

/// The running program. It is killed if a test fails.
struct Gateway {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Gateway {
    fn start(file: &PathBuf) -> (Self, SocketAddr) {
        Self::logging(file, Stdio::inherit())
    }

    fn logging(file: &PathBuf, log: Stdio) -> (Self, SocketAddr) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .arg("--config")
            .arg(file)
            .env("GATEWAY_TEST_KEY", "key-of-ann-0123456789abcdef")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut gateway = Self { child, lines };
        let line = gateway.line();
        let address = line.split([' ', ';']).find_map(|word| word.parse().ok());
        (gateway, address.unwrap_or_else(|| panic!("no address: {line}")))
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // A program that has ended is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the status of an answer.
fn ask(address: SocketAddr, path: &str, fields: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n")
        .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if connection.read(&mut byte).unwrap() == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            let _ = connection.write_all(answer);
        }
    });
    address
}

#[test]
fn edge_2_52_sighup_reads_the_configuration_again_and_a_wrong_one_changes_nothing() {
    let file = std::env::temp_dir().join(format!("gateway-{}.toml", std::process::id()));
    let upstream = format!("upstream = {{ urls = [\"http://{}\"] }}", backend());
    let keys = "[admissions.partners.api-keys]\nheader = \"x-api-key\"\n\
                keys = [{ subject = \"ann\", key = { env = \"GATEWAY_TEST_KEY\" } }]\n";
    let write = |rest: &str| {
        std::fs::write(&file, format!("listen = \"127.0.0.1:0\"\n{keys}{rest}")).unwrap();
    };
    let orders =
        format!("[routes.orders]\nprefix = \"/orders\"\nadmit = \"partners\"\n{upstream}\n");
    write(&orders);
    let (mut gateway, address) = Gateway::start(&file);
    let key = "x-api-key: key-of-ann-0123456789abcdef\r\n";
    assert_eq!(ask(address, "/orders", ""), "401");
    assert_eq!(ask(address, "/orders", key), "200");
    assert_eq!(ask(address, "/prices", ""), "404");

    write(&format!("{orders}[routes.prices]\nprefix = \"/prices\"\npublic = true\n{upstream}\n"));
    gateway.signal("-HUP");
    let line = gateway.line();
    assert_eq!(line, r#"read again: added ["prices"], continued ["orders"], removed []"#);
    assert_eq!(ask(address, "/prices", ""), "200");

    write("[routes.orders]\nprefx = \"/\"\n");
    gateway.signal("-HUP");
    let line = gateway.line();
    assert!(line.starts_with("not read again, nothing changed: "), "{line}");
    assert!(line.contains("prefx"), "{line}");
    assert_eq!(ask(address, "/prices", ""), "200");

    // Regression: another address was ignored without a word.
    std::fs::write(&file, format!("listen = \"127.0.0.1:1\"\n{keys}{orders}")).unwrap();
    gateway.signal("-HUP");
    let line = gateway.line();
    let expected = "not read again, nothing changed: listen = \"127.0.0.1:1\": \
                    cannot change from \"127.0.0.1:0\" while the gateway runs";
    assert_eq!(line, expected);
    assert_eq!(ask(address, "/prices", ""), "200");

    gateway.signal("-TERM");
    assert!(gateway.line().contains("connections, 0 of them cut off"));
    assert_eq!(gateway.line(), "orders: 2 begun, 1 answered");
    assert!(gateway.child.wait().unwrap().success());
    std::fs::remove_file(&file).unwrap();
}

/// Regression: the program said nothing, and every request was refused.
#[test]
fn edge_5_1_a_file_of_instances_and_a_name_that_fail_are_log_lines() {
    let set = std::env::temp_dir().join(format!("gateway-set-{}", std::process::id()));
    let file = std::env::temp_dir().join(format!("gateway-found-{}.toml", std::process::id()));
    std::fs::write(&set, "orders-1\n").unwrap();
    let text = format!(
        "listen = \"127.0.0.1:0\"\n\
         [routes.orders]\nprefix = \"/orders\"\npublic = true\nupstream = {{ file = {set:?} }}\n\
         [routes.prices]\nprefix = \"/prices\"\npublic = true\n\
         upstream = {{ dns = \"no-such-name.invalid:80\" }}\n"
    );
    std::fs::write(&file, text).unwrap();
    let log = std::env::temp_dir().join(format!("gateway-log-{}", std::process::id()));
    let (_gateway, address) = Gateway::logging(&file, std::fs::File::create(&log).unwrap().into());
    let mut asked = 0;
    let [orders, prices] = loop {
        // A request waits a second for a backend.
        assert_eq!(ask(address, "/orders", ""), "503");
        let text = std::fs::read_to_string(&log).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("WARN: the resolver failed"));
        let mut lines: Vec<String> = lines.map(String::from).collect();
        lines.sort_unstable();
        match <[String; 2]>::try_from(lines) {
            Ok(both) => break both,
            Err(lines) => assert!(asked < 60, "{lines:?} of {text}"),
        }
        asked += 1;
    };
    let name = set.file_name().unwrap().to_str().unwrap();
    assert!(orders.contains("layer=\"orders\"") && orders.contains(name), "{orders}");
    assert!(orders.contains("line 1: an instance needs an id and an address"), "{orders}");
    assert!(prices.contains("layer=\"prices\""), "{prices}");
    assert!(prices.contains("no-such-name.invalid:80"), "{prices}");
    for file in [&set, &log] {
        std::fs::remove_file(file).unwrap();
    }
    std::fs::remove_file(&file).unwrap();
}

#[cfg(feature = "tls")]
#[test]
fn edge_2_52_sighup_renews_the_certificate_of_the_listener() {
    use buttress_edge::Roots;
    use buttress_edge::client::{Config, ServiceClient};

    const KEYS: &str = "../../crates/buttress-edge/src/admit/jwt/tests/keys";
    let folder = std::env::temp_dir().join(format!("gateway-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let put = |name: &str| {
        for (from, to) in [("pem", "edge.pem"), ("key.pem", "edge.key")] {
            std::fs::copy(format!("{KEYS}/{name}.{from}"), folder.join(to)).unwrap();
        }
    };
    let file = folder.join("gateway.toml");
    let at = folder.display();
    let text = format!(
        "listen = \"127.0.0.1:0\"\n\
         [tls]\ncertificate = \"{at}/edge.pem\"\nkey = {{ file = \"{at}/edge.key\" }}\n\
         [routes.all]\npublic = true\nupstream = {{ urls = [\"http://{}\"] }}\n",
        backend()
    );
    std::fs::write(&file, &text).unwrap();
    put("id_example");
    let (mut gateway, address) = Gateway::start(&file);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The renewed certificate is for `localhost` too.
    let is_renewed = || {
        let authority = std::fs::read(format!("{KEYS}/renewed_authority.pem")).unwrap();
        let config = Config::new().no_retry().roots(Roots::pem(&authority).unwrap());
        let url = format!("https://localhost:{}", address.port());
        let client = ServiceClient::with(&url, config).unwrap();
        runtime.block_on(client.get("/").send()).is_ok()
    };
    assert!(!is_renewed());
    put("renewed");
    std::fs::write(folder.join("edge.key"), "no key").unwrap();
    gateway.signal("-HUP");
    let line = gateway.line();
    assert!(line.starts_with("not read again, nothing changed: "), "{line}");
    assert!(!is_renewed());
    // Regression: a removed section was refused after the routes had changed.
    let without = format!(
        "listen = \"127.0.0.1:0\"\n\
         [routes.prices]\npublic = true\nupstream = {{ urls = [\"http://{}\"] }}\n",
        backend()
    );
    std::fs::write(&file, without).unwrap();
    gateway.signal("-HUP");
    let line = gateway.line();
    assert!(line.contains("nothing changed: the section `tls` cannot come or go"), "{line}");
    std::fs::write(&file, &text).unwrap();
    put("renewed");
    gateway.signal("-HUP");
    let line = gateway.line();
    assert_eq!(line, r#"read again: added [], continued ["all"], removed []"#);
    assert!(is_renewed());
    gateway.signal("-TERM");
    assert!(gateway.line().contains("connections"));
    std::fs::remove_dir_all(&folder).unwrap();
}
