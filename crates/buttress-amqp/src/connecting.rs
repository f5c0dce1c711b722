//! An attempt to connect that is abandoned when its caller stops waiting.
//!
//! The client connects on a separate thread. The thread waits for the server as long as the socket is open, and a
//! server that accepts and says nothing never closes it. So the attempt keeps a handle of the socket, and shuts it down
//! when it is dropped before its end.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buttress::Clock;
use lapin::tcp::TLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties, runtime};

/// Connects. The caller drops the future after `limit`, which bounds what happens on the thread of the client too.
pub(crate) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    clock: Clock,
    limit: Duration,
) -> Result<Connection, lapin::Error> {
    let attempt = Attempt(Arc::default());
    let socket = attempt.0.clone();
    // Boxed: the future of the client is large.
    let connecting = Box::pin(Connection::connector(
        uri,
        runtime::default_runtime()?,
        async move |uri: AMQPUri, runtime| {
            let host = uri.authority.host.as_str();
            let opening = async {
                let addresses = tokio::net::lookup_host((host, uri.authority.port)).await?;
                let addresses: Vec<SocketAddr> = addresses.collect();
                let plain = AsyncTcpStream::connect(&runtime, addresses).await?;
                #[allow(irrefutable_let_patterns, reason = "features of the client add variants")]
                if let AsyncTcpStream::Plain(plain) = &plain {
                    socket.keep(duplicate(plain.get_ref())?)?;
                }
                match uri.scheme {
                    AMQPScheme::AMQP => Ok(plain),
                    AMQPScheme::AMQPS => match plain.into_tls(host, TLSConfig::default()).await? {
                        AsyncTcpStream::Plain(_) => Err(no_tls()),
                        #[allow(unreachable_patterns, reason = "variants of features")]
                        encrypted => Ok(encrypted),
                    },
                }
            };
            let opened = clock.within(limit, opening).await;
            opened.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())).map_err(Into::into)
        },
        properties,
    ));
    let connected = connecting.await?;
    attempt.0.release();
    Ok(connected)
}

/// The client returns a stream without encryption for `amqps` when none of its TLS libraries is switched on. It would send
/// the password in plain text.
fn no_tls() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "the client has no TLS for the scheme amqps: switch on the features rustls-native-certs and rustls--ring of the \
         crate lapin",
    )
}

/// Shuts the socket down, unless the attempt has succeeded.
struct Attempt(Arc<Socket>);

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if let State::Open(socket) = &*state {
            // It may be closed already.
            let _closed = socket.shutdown(Shutdown::Both);
        }
        if !matches!(*state, State::Released) {
            *state = State::GivenUp;
        }
    }
}

/// The socket of an attempt.
#[derive(Default)]
struct Socket(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Waiting,
    Open(TcpStream),
    Released,
    GivenUp,
}

impl Socket {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the handle of a socket. Refuses it after the attempt has ended: the client would continue without a
    /// caller.
    fn keep(&self, socket: TcpStream) -> io::Result<()> {
        let mut state = self.state();
        match *state {
            State::Waiting | State::Open(_) => *state = State::Open(socket),
            State::Released | State::GivenUp => return Err(io::ErrorKind::ConnectionAborted.into()),
        }
        Ok(())
    }

    fn release(&self) {
        *self.state() = State::Released;
    }
}

#[cfg(unix)]
fn duplicate(socket: &tokio::net::TcpStream) -> io::Result<TcpStream> {
    use std::os::fd::AsFd as _;
    Ok(socket.as_fd().try_clone_to_owned()?.into())
}

#[cfg(windows)]
fn duplicate(socket: &tokio::net::TcpStream) -> io::Result<TcpStream> {
    use std::os::windows::io::AsSocket as _;
    Ok(socket.as_socket().try_clone_to_owned()?.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// The threads of clients. No other test of this program connects.
    fn threads() -> io::Result<usize> {
        let tasks = std::fs::read_dir("/proc/self/task")?;
        let names = tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("comm")));
        Ok(names.flatten().filter(|name| name.starts_with("lapin-io-loop")).count())
    }

    #[tokio::test]
    async fn an_attempt_that_is_given_up_leaves_no_thread_behind() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri: AMQPUri = format!("amqp://{}", silent.local_addr().unwrap()).parse().unwrap();
        let (clock, limit) = (Clock::default(), Duration::from_millis(50));
        for _ in 0..10 {
            let connecting =
                connect(uri.clone(), ConnectionProperties::default(), clock.clone(), limit);
            assert!(clock.within(limit, connecting).await.is_none());
        }
        let begun = clock.now();
        while threads().unwrap() > 0 {
            let waited = clock.now() - begun;
            assert!(waited < Duration::from_secs(10), "{:?} threads are left", threads());
            clock.sleep(Duration::from_millis(10)).await;
        }
    }
}
