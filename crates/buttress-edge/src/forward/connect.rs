//! Connections to backends.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::Clock;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower::Service;

use crate::race::first;

/// Opens connections to backends, each within a time.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    limit: Duration,
    clock: Clock,
    #[cfg(test)]
    pub(crate) memory: Option<crate::tests::Network>,
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
        Self {
            limit,
            clock,
            #[cfg(test)]
            memory: None,
        }
    }

    async fn connect(self, uri: Uri) -> io::Result<TokioIo<Stream>> {
        let open = std::pin::pin!(self.open(&uri));
        let sleep = std::pin::pin!(self.clock.sleep(self.limit));
        let io = first(open, sleep).await.unwrap_or_else(|| Err(io::Error::other(TimedOut)))?;
        Ok(TokioIo::new(Stream { io, used: Used::default() }))
    }

    async fn open(&self, uri: &Uri) -> io::Result<Io> {
        #[cfg(test)]
        if let Some(network) = &self.memory {
            let io = network.connect(uri).await?;
            return Ok(Io::Memory { io });
        }
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let io = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
        io.set_nodelay(true)?;
        Ok(Io::Tcp { io })
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

/// Whether a connection has answered a request before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Used(Arc<AtomicBool>);

impl Used {
    pub(crate) fn set(&self) {
        // The flag orders no other memory.
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pin_project! {
    /// A connection to a backend.
    pub(crate) struct Stream {
        #[pin]
        io: Io,
        used: Used,
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.used.clone())
    }
}

#[cfg(not(test))]
pin_project! {
    #[project = IoProj]
    enum Io {
        Tcp { #[pin] io: TcpStream },
    }
}

#[cfg(test)]
pin_project! {
    #[project = IoProj]
    enum Io {
        Tcp { #[pin] io: TcpStream },
        Memory { #[pin] io: tokio::io::DuplexStream },
    }
}

macro_rules! on_io {
    ($this:expr, $io:ident => $do:expr) => {
        match $this.project().io.project() {
            IoProj::Tcp { io: $io } => $do,
            #[cfg(test)]
            IoProj::Memory { io: $io } => $do,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_io!(self, io => io.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_io!(self, io => io.poll_write(cx, data))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_io!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_io!(self, io => io.poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Tcp { io } => io.is_write_vectored(),
            #[cfg(test)]
            Io::Memory { io } => io.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_io!(self, io => io.poll_write_vectored(cx, data))
    }
}
