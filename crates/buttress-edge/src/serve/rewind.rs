//! A connection whose first bytes were read to find out its protocol.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The first bytes of a client of h2 (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that reads `start` before everything else.
pub(super) struct Rewind<Io> {
    start: Bytes,
    /// A failure of the read that joined `start`.
    failed: Option<io::Error>,
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
    Ok((Rewind { start: Bytes::copy_from_slice(read.filled()), failed: None, io }, is_h2))
}

impl<Io: AsyncRead + Unpin> AsyncRead for Rewind<Io> {
    /// Reads what follows `start` into the same buffer. The server doubles the buffer of a connection whose first read
    /// has no whole head, and keeps it: 8 KiB more for each idle connection.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.start.len().min(buffer.remaining());
        if length == 0 {
            return match self.failed.take() {
                Some(error) => Poll::Ready(Err(error)),
                None => Pin::new(&mut self.io).poll_read(cx, buffer),
            };
        }
        buffer.put_slice(self.start.get(..length).unwrap_or_default());
        self.start.advance(length);
        if buffer.remaining() > 0 {
            if let Poll::Ready(Err(error)) = Pin::new(&mut self.io).poll_read(cx, buffer) {
                self.failed = Some(error);
            }
        }
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio_test::io::{Builder, Mock};

    use super::*;

    /// Returns what each read of a connection brings after the protocol is known. An error is `None`.
    async fn reads(io: Mock, size: usize) -> (bool, Vec<Option<String>>) {
        let (mut rewind, is_h2) = sniff(io).await.unwrap();
        let (mut all, mut buffer) = (Vec::new(), vec![0; size]);
        loop {
            let read = rewind.read(&mut buffer).await.ok();
            all.push(read.map(|read| String::from_utf8(buffer[..read].to_vec()).unwrap()));
            if matches!(read, None | Some(0)) {
                return (is_h2, all);
            }
        }
    }

    fn texts(all: &[&str]) -> Vec<Option<String>> {
        all.iter().map(|text| Some((*text).to_owned())).collect()
    }

    #[tokio::test]
    async fn the_first_read_has_the_bytes_that_were_read_and_those_that_follow() {
        let io = Builder::new().read(b"GET /a ").read(b"HTTP/1.1\r\n").read(b"\r\n").build();
        let expected = texts(&["GET /a HTTP/1.1\r\n", "\r\n", ""]);
        assert_eq!(reads(io, 100).await, (false, expected));
    }

    #[tokio::test]
    async fn a_buffer_that_is_too_small_is_filled_and_nothing_is_lost() {
        let io = Builder::new().read(b"PRI * HTTP/2.0\r\n").read(b"\r\nSM\r\n\r\nab").build();
        let expected = texts(&["PRI * HTTP", "/2.0\r\n\r\nSM", "\r\n\r\nab", ""]);
        assert_eq!(reads(io, 10).await, (true, expected));
    }

    #[tokio::test]
    async fn a_failure_behind_the_first_bytes_comes_after_them() {
        let reset = io::ErrorKind::ConnectionReset.into();
        let io = Builder::new().read(b"GET").read_error(reset).build();
        let mut expected = texts(&["GET"]);
        expected.push(None);
        assert_eq!(reads(io, 100).await, (false, expected));
    }
}
