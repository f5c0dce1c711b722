//! A connection whose first bytes were read to find out its protocol.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a client of h2 sends first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that reads `start` before everything else.
pub(super) struct Rewind<Io> {
    start: Bytes,
    io: Io,
}

/// Reads until the protocol is known. Returns the connection, and whether it is h2.
pub(super) async fn sniff<Io: AsyncRead + Unpin>(mut io: Io) -> io::Result<(Rewind<Io>, bool)> {
    let mut buffer = [0; PREFACE.len()];
    let mut read = ReadBuf::new(&mut buffer);
    let is_h2 = loop {
        let before = read.filled().len();
        poll_fn(|cx| Pin::new(&mut io).poll_read(cx, &mut read)).await?;
        let filled = read.filled();
        if filled.len() == before || !PREFACE.starts_with(filled) {
            break false;
        }
        if filled.len() == PREFACE.len() {
            break true;
        }
    };
    Ok((Rewind { start: Bytes::copy_from_slice(read.filled()), io }, is_h2))
}

impl<Io: AsyncRead + Unpin> AsyncRead for Rewind<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.start.len().min(buffer.remaining());
        if length > 0 {
            buffer.put_slice(self.start.get(..length).unwrap_or_default());
            self.start.advance(length);
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Rewind<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, data)
    }
}
