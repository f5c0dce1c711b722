//! A broker that a test starts itself.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use buttress::Clock;

/// The program, which `.ci/kafka` names.
const PROGRAM: &str = "BUTTRESS_KAFKA_PROGRAM";

/// A broker that keeps its messages in memory. It is killed when this is dropped.
pub(crate) struct Broker(pub(crate) Child);

impl Broker {
    /// Starts a broker at `address` that tells its clients to connect to `advertised`. Without the program a test is
    /// skipped with a line of output, unless `BUTTRESS_REQUIRE_SERVICES=1` makes that a failure.
    pub(crate) async fn start(
        test: &str,
        address: SocketAddr,
        advertised: SocketAddr,
    ) -> Option<Self> {
        let Ok(program) = std::env::var(PROGRAM) else {
            let required =
                std::env::var("BUTTRESS_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
            assert!(!required, "a broker is required: `.ci/kafka` fetches it and sets {PROGRAM}");
            println!("skipped {test} on a broker: {PROGRAM} is not set, see .ci/kafka");
            return None;
        };
        let mut command = Command::new(program);
        command.args(["broker", "--storage-engine", "memory://tansu/"]);
        command.args(["--listener-url", &format!("tcp://{address}")]);
        command.args(["--advertised-listener-url", &format!("tcp://{advertised}")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut broker = Self(command.spawn().unwrap());
        let clock = Clock::default();
        for _ in 0..600 {
            if TcpStream::connect(address).is_ok() {
                return Some(broker);
            }
            assert!(broker.0.try_wait().unwrap().is_none(), "the broker has ended");
            clock.sleep(Duration::from_millis(100)).await;
        }
        panic!("the broker does not answer");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
