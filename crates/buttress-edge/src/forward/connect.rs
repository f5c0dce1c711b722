//! Connections to backends.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::Clock;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower::Service;

use crate::descriptors;
use crate::race::first;
#[cfg(feature = "tls")]
use crate::tls::Upstreams;

/// Opens connections to backends, each within a time. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Connector(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    limit: Duration,
    clock: Clock,
    #[cfg(feature = "tls")]
    tls: Upstreams,
    #[cfg(test)]
    memory: Option<crate::tests::Network>,
}

/// The error of a connection that was not there in time.
#[derive(Debug)]
pub(crate) struct TimedOut;

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection was not established in time")
    }
}

impl std::error::Error for TimedOut {}

impl Connector {
    pub(crate) fn new(limit: Duration, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            limit,
            clock,
            #[cfg(feature = "tls")]
            tls: Upstreams::default(),
            #[cfg(test)]
            memory: None,
        }))
    }

    /// Connects to backends in memory.
    #[cfg(test)]
    pub(crate) fn memory(mut self, network: crate::tests::Network) -> Self {
        Arc::make_mut(&mut self.0).memory = Some(network);
        self
    }

    /// Sets the certificates that backends of https are believed by.
    #[cfg(feature = "tls")]
    pub(crate) fn tls(mut self, tls: Upstreams) -> Self {
        Arc::make_mut(&mut self.0).tls = tls;
        self
    }

    /// Asks for HTTP/2 on connections of https.
    #[cfg(feature = "tls")]
    pub(crate) fn http2(self) -> Self {
        let tls = self.0.tls.clone().http2();
        self.tls(tls)
    }

    async fn connect(self, uri: Uri) -> io::Result<TokioIo<Stream>> {
        let open = std::pin::pin!(self.0.open(&uri));
        let sleep = std::pin::pin!(self.0.clock.sleep(self.0.limit));
        let io = first(open, sleep).await.unwrap_or_else(|| Err(io::Error::other(TimedOut)))?;
        Ok(TokioIo::new(Stream::new(io)))
    }
}

impl Inner {
    async fn open(&self, uri: &Uri) -> io::Result<Io> {
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_tls = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let io = self.plain(uri, (host, port)).await?;
        #[cfg(feature = "tls")]
        if is_tls {
            let plain = Stream::new(io);
            return Ok(Io::Tls(Box::new(self.tls.connect(host, plain).await?)));
        }
        Ok(io)
    }

    #[cfg_attr(not(test), expect(unused_variables, reason = "backends in memory have names"))]
    async fn plain(&self, uri: &Uri, address: (&str, u16)) -> io::Result<Io> {
        #[cfg(test)]
        if let Some(network) = &self.memory {
            return Ok(Io::Memory(network.connect(uri).await?));
        }
        let io = TcpStream::connect(address).await.map_err(|error| {
            // A name that cannot be looked up for want of a descriptor has an error without a number.
            let own = tokio::net::TcpSocket::new_v4().err().filter(descriptors::are_exhausted);
            own.filter(|_| error.raw_os_error().is_none()).unwrap_or(error)
        })?;
        io.set_nodelay(true)?;
        Ok(Io::Tcp(io))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// The reads of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Used(Arc<Reads>);

#[derive(Debug, Default)]
struct Reads {
    /// Whether the connection has answered a request before.
    answered: AtomicBool,
    /// How many times bytes arrived.
    count: AtomicU64,
}

impl Used {
    pub(crate) fn set(&self) {
        // The flag orders no other memory.
        self.0.answered.store(true, Ordering::Relaxed);
    }

    /// Returns how many times bytes have arrived on the connection.
    pub(crate) fn reads(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }

    pub(crate) fn get(&self) -> bool {
        self.0.answered.load(Ordering::Relaxed)
    }
}

/// A connection to a backend.
pub(crate) struct Stream {
    io: Io,
    used: Used,
    /// Whether the peer takes no more bytes. Its earlier bytes are still read.
    is_refused: bool,
}

impl Stream {
    fn new(io: Io) -> Self {
        Self { io, used: Used::default(), is_refused: false }
    }

    /// Turns the write error of a peer that reads no more into a write without an effect. A backend that refuses a body
    /// sends its answer first, and the answer is read only while writes succeed. The end of the answer ends the
    /// connection.
    fn written(
        &mut self,
        written: Poll<io::Result<usize>>,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                self.is_refused = true;
                Poll::Ready(Ok(length))
            }
            written => written,
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.used.clone())
    }
}

enum Io {
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<Stream>>),
    #[cfg(test)]
    Memory(tokio::io::DuplexStream),
}

macro_rules! on_io {
    ($this:expr, $io:ident => $do:expr) => {
        match $this {
            Io::Tcp($io) => $do,
            #[cfg(feature = "tls")]
            Io::Tls($io) => $do,
            #[cfg(test)]
            Io::Memory($io) => $do,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = on_io!(&mut this.io, io => Pin::new(io).poll_read(cx, buffer));
        if polled.is_ready() {
            this.used.0.count.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_refused {
            return Poll::Ready(Ok(data.len()));
        }
        let written = on_io!(&mut this.io, io => Pin::new(io).poll_write(cx, data));
        this.written(written, data.len())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_refused {
            return Poll::Ready(Ok(()));
        }
        on_io!(&mut this.io, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_io!(&mut self.get_mut().io, io => Pin::new(io).poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        on_io!(&self.io, io => io.is_write_vectored())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (this, length) = (self.get_mut(), data.iter().map(|part| part.len()).sum());
        if this.is_refused {
            return Poll::Ready(Ok(length));
        }
        let written = on_io!(&mut this.io, io => Pin::new(io).poll_write_vectored(cx, data));
        this.written(written, length)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_a_backend_sent_is_read_although_it_takes_no_more_bytes() {
        let (near, mut far) = duplex(64);
        let mut stream = Stream::new(Io::Memory(near));
        far.write_all(b"no").await.unwrap();
        drop(far);
        for _ in 0..2 {
            stream.write_all(b"more").await.unwrap();
            stream.flush().await.unwrap();
        }
        let mut read = String::new();
        stream.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "no");
    }
}
