//! Accepts connections, and continues after errors of the listener.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use buttress::Clock;
use tokio::net::{TcpListener, TcpStream};

use crate::notice::Notice;

/// The pause after an error of the listener, e.g. when no file descriptor is free.
const PAUSE: Duration = Duration::from_millis(100);

/// A source of connections.
pub(super) trait Listen {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Listen for TcpListener {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        Self::accept(self)
    }
}

/// A listener that tries again after an error.
pub(super) struct Door<L> {
    listener: L,
    clock: Clock,
    /// The failures of the listener, and whether they are logged.
    notice: Notice,
}

impl<L: Listen> Door<L> {
    pub(super) fn new(listener: L, clock: Clock) -> Self {
        Self { listener, clock, notice: Notice::default() }
    }

    /// Waits for the next connection.
    ///
    /// # Cancel safety
    /// A dropped future loses no connection.
    pub(super) async fn next(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    if self.notice.is_due(self.clock.now()) {
                        tracing::error!(%error, "cannot accept connections; trying again every 100 ms");
                    }
                    self.clock.sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Whether an error of `accept` is about the connection that was to be accepted.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::tests::log;

    /// Fails as the list says, and accepts in between.
    struct Failing {
        listener: TcpListener,
        errors: Mutex<Vec<Option<io::Error>>>,
    }

    impl Listen for Failing {
        async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
            let error = self.errors.lock().unwrap().pop().unwrap();
            match error {
                Some(error) => Err(error),
                None => self.listener.accept().await,
            }
        }
    }

    /// EMFILE: the process has no free file descriptor.
    const EMFILE: i32 = 24;

    #[tokio::test(start_paused = true)]
    async fn edge_2_51_an_error_of_the_listener_is_retried_after_100_ms_and_logged_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = [(); 3].map(|()| TcpStream::connect(address));
        let full = || Some(io::Error::from_raw_os_error(EMFILE));
        let reset = || Some(io::ErrorKind::ConnectionReset.into());
        let mut errors =
            vec![full(), full(), full(), reset(), None, full(), full(), None, full(), None];
        errors.reverse();
        let clock = Clock::default();
        let mut door = Door::new(Failing { listener, errors: errors.into() }, clock.clone());
        let _connections = {
            let [first, second, third] = connections;
            (first.await.unwrap(), second.await.unwrap(), third.await.unwrap())
        };
        let log = log::begin();
        let start = clock.now();
        door.next().await;
        // The connection that was reset costs no time.
        assert_eq!(clock.now() - start, 3 * PAUSE);
        assert_eq!(log.matches("cannot accept connections"), 1);
        // A connection in between is not a reason to say it again.
        door.next().await;
        assert_eq!(clock.now() - start, 5 * PAUSE);
        assert_eq!(log.matches("cannot accept connections"), 1);
        clock.sleep(Duration::from_secs(60)).await;
        door.next().await;
        assert_eq!(log.matches("cannot accept connections"), 2);
    }
}
