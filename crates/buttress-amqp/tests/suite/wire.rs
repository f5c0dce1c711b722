//! A network between a client and the server that counts connections and changes bytes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use buttress_amqp::Rabbit;

use crate::server;

/// `connection.blocked` and `connection.unblocked`, as frames.
pub(crate) const BLOCKED: &[u8] = b"\x01\0\0\0\0\0\x07\0\x0a\0\x3c\x02no\xce";
pub(crate) const UNBLOCKED: &[u8] = b"\x01\0\0\0\0\0\x04\0\x0a\0\x3d\xce";

pub(crate) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    connections: AtomicUsize,
    changed: AtomicUsize,
    ended: AtomicBool,
    /// Whether confirmations are lost on their way to clients.
    swallows: AtomicBool,
    /// Bytes to replace, each with others.
    changes: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
    clients: Mutex<Vec<TcpStream>>,
}

impl Wire {
    pub(crate) fn to(url: &str) -> Self {
        let target = url.trim_start_matches("amqp://").parse().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, changed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (ended, swallows) = (AtomicBool::new(false), AtomicBool::new(false));
        let (changes, clients) = Default::default();
        let shared =
            Arc::new(Shared { target, connections, changed, ended, swallows, changes, clients });
        let theirs = shared.clone();
        thread::spawn(move || theirs.accept(&listener));
        Self { address, shared }
    }

    /// Returns the server, through this network.
    pub(crate) fn rabbit(&self) -> Rabbit {
        server::at(&format!("amqp://{}", self.address))
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How often bytes were replaced and sent on.
    pub(crate) fn changed(&self) -> usize {
        self.shared.changed.load(Ordering::SeqCst)
    }

    /// Replaces bytes that come in one piece, in both directions.
    pub(crate) fn change(&self, from: &[u8], to: &[u8]) {
        self.shared.changes.lock().unwrap().push((from.to_vec(), to.to_vec()));
    }

    /// Sets whether confirmations are lost on their way to clients.
    pub(crate) fn swallow_confirmations(&self, swallows: bool) {
        self.shared.swallows.store(swallows, Ordering::SeqCst);
    }

    /// Sends bytes to every client.
    pub(crate) fn tell(&self, bytes: &[u8]) {
        for client in &mut *self.shared.clients.lock().unwrap() {
            let _gone = client.write_all(bytes);
        }
    }

    /// Closes every connection.
    pub(crate) fn cut(&self) {
        for client in self.shared.clients.lock().unwrap().drain(..) {
            let _closed = client.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _woken = TcpStream::connect(self.address);
        self.cut();
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            let _failed = client.and_then(|client| self.connect(client));
        }
    }

    fn connect(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let server = TcpStream::connect(self.target)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        self.clients.lock().unwrap().push(client.try_clone()?);
        let (from, to, shared) = (client.try_clone()?, server.try_clone()?, self.clone());
        thread::spawn(move || shared.forward(from, to, false));
        let shared = self.clone();
        thread::spawn(move || shared.forward(server, client, true));
        Ok(())
    }

    fn forward(&self, mut from: TcpStream, mut to: TcpStream, of_the_server: bool) {
        let (mut buffer, mut incomplete) = (vec![0; 1 << 16], Vec::new());
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let (mut bytes, mut changed) = (buffer[..length].to_vec(), 0);
            if of_the_server {
                incomplete.extend(bytes);
                bytes = whole_frames(&mut incomplete);
                if self.swallows.load(Ordering::SeqCst) {
                    bytes = without_confirmations(&bytes);
                }
            }
            for (old, new) in &*self.changes.lock().unwrap() {
                let mut next = 0;
                let find = |bytes: &[u8], from: usize| {
                    bytes[from..].windows(old.len()).position(|part| part == old)
                };
                while let Some(at) = find(&bytes, next) {
                    let at = next + at;
                    bytes.splice(at..at + old.len(), new.iter().copied());
                    next = at + new.len();
                    changed += 1;
                }
            }
            if to.write_all(&bytes).is_err() {
                break;
            }
            self.changed.fetch_add(changed, Ordering::SeqCst);
        }
        for stream in [from, to] {
            let _closed = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Takes the frames whose ends have come.
fn whole_frames(bytes: &mut Vec<u8>) -> Vec<u8> {
    let mut end = 0;
    while let Some(frame) = frame(&bytes[end..]) {
        end += frame.len();
    }
    bytes.drain(..end).collect()
}

fn without_confirmations(frames: &[u8]) -> Vec<u8> {
    let (mut kept, mut rest) = (Vec::new(), frames);
    while let Some(frame) = frame(rest) {
        // A frame of the method `basic.ack`.
        if frame[0] != 1 || frame[7..11] != [0, 60, 0, 80] {
            kept.extend_from_slice(frame);
        }
        rest = &rest[frame.len()..];
    }
    kept
}

/// Returns the first frame: its type, channel, size, content and end.
fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let size = u32::from_be_bytes(bytes.get(3..7)?.try_into().unwrap());
    bytes.get(..size as usize + 8)
}
