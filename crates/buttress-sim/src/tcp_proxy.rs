//! [`TcpProxy`]: a network between a client and a real server, which a test cuts.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A TCP proxy on a separate port, for tests with a real server. It forwards bytes until the test cuts it.
///
/// It runs on its own threads, so it works beside any runtime and any clock. Its threads end with their connections.
/// The drop of the proxy cuts all of them.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::{TcpListener, TcpStream};
/// use buttress_sim::TcpProxy;
///
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let proxy = TcpProxy::to(server.local_addr()?)?;
/// let mut client = TcpStream::connect(proxy.address())?;
/// client.write_all(b"hello")?;
/// let (mut accepted, mut read) = (server.accept()?.0, [0; 5]);
/// accepted.read_exact(&mut read)?;
/// assert_eq!(&read, b"hello");
///
/// proxy.cut();
/// assert_eq!(client.read(&mut read)?, 0, "closed");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    refuses: AtomicBool,
    ended: AtomicBool,
    /// Both ends of every connection that was made since the last cut.
    streams: Mutex<Vec<TcpStream>>,
}

impl TcpProxy {
    /// Starts a proxy to the server at `target`.
    ///
    /// # Errors
    /// Returns the error of the operating system if no port of the loopback interface is free.
    pub fn to(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let (refuses, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared = Arc::new(Shared { target, refuses, ended, streams: Mutex::default() });
        let theirs = shared.clone();
        thread::spawn(move || theirs.accept(&listener));
        Ok(Self { address, shared })
    }

    /// Returns the address of the proxy.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection. Bytes in transit are lost. New connections work, unless the proxy
    /// [refuses](Self::refuse) them.
    pub fn cut(&self) {
        for stream in self.shared.streams().drain(..) {
            // It may be closed already.
            let _closed = stream.shutdown(Shutdown::Both);
        }
    }

    /// Closes new connections immediately, or stops to do so. Present connections stay: [`cut`](Self::cut) them.
    pub fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::SeqCst);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _woken = TcpStream::connect(self.address);
        self.cut();
    }
}

impl Shared {
    fn streams(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            let Ok(client) = client else { continue };
            if !self.refuses.load(Ordering::SeqCst) {
                // A server that is not there closes the client's connection.
                let _failed = self.connect(client);
            }
        }
    }

    fn connect(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(self.target)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ends = [client.try_clone()?, server.try_clone()?];
        let (ask, answer) = ((client.try_clone()?, server.try_clone()?), (server, client));
        self.streams().extend(ends);
        for (from, to) in [ask, answer] {
            thread::spawn(move || forward(from, to));
        }
        Ok(())
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if buffer.get(..length).is_none_or(|bytes| to.write_all(bytes).is_err()) {
            break;
        }
    }
    for stream in [from, to] {
        let _closed = stream.shutdown(Shutdown::Both);
    }
}
