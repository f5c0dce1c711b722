//! A client of HTTP/1.1 on a blocking socket.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// The fields of every request, as browsers and services send them.
pub const FIELDS: [(&str, &str); 4] = [
    ("x-api-key", "key-of-ann-0123456789abcdef"),
    ("user-agent", "edge-bench/1"),
    ("accept", "application/json"),
    ("x-request-priority", "2"),
];

/// The path that every proxy routes to the backend.
pub const SMALL: &str = "/api/orders/17?page=2";
/// The path of 1 MiB.
pub const BIG: &str = "/api/orders/big";

/// A kept connection.
pub struct Client {
    io: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let io = TcpStream::connect(address)?;
        io.set_nodelay(true)?;
        Ok(Self { io, buffer: Vec::new() })
    }

    /// Sends a GET, and reads the answer, which must be a 200 with a length.
    pub fn get(&mut self, path: &str) -> io::Result<()> {
        let head = self.exchange(path, "")?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let length: usize = length.ok_or_else(|| io::Error::other("no length"))?;
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(io::Error::other(format!("an answer that is not 200: {head}")));
        }
        while self.buffer.len() < length {
            self.read()?;
        }
        self.buffer.drain(..length);
        Ok(())
    }

    /// Asks for an upgrade. The connection is a tunnel afterwards.
    pub fn upgrade(mut self, path: &str) -> io::Result<TcpStream> {
        let head = self.exchange(path, "connection: upgrade\r\nupgrade: echo\r\n")?;
        if head.starts_with("HTTP/1.1 101 ") {
            Ok(self.io)
        } else {
            Err(io::Error::other(format!("no upgrade: {head}")))
        }
    }

    /// Sends a request, and returns the head of the answer.
    fn exchange(&mut self, path: &str, more: &str) -> io::Result<String> {
        let fields: String =
            FIELDS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("GET {path} HTTP/1.1\r\nhost: shop.example\r\n{fields}{more}\r\n");
        self.io.write_all(request.as_bytes())?;
        loop {
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        let length = self.io.read(&mut chunk)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend_from_slice(chunk.get(..length).unwrap_or_default());
        Ok(())
    }
}
