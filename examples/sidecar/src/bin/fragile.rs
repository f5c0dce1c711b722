//! A service that crashes, for the tests of the sidecar and to try it.
//!
//! ```text
//! cargo run -p sidecar --bin fragile -- 127.0.0.1:8001
//! ```
//!
//! | path | answer |
//! |---|---|
//! | `/exit/3` | none: the process ends with code 3 |
//! | `/slow` | once a client asks for `/release` |
//! | `/head` | the head of the request |
//! | every other path | the id of the process |

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Opens for all that wait for it.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // The result is the lock, which is not needed any more.
        drop(self.opened.wait_while(open, |open| !*open));
    }
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| String::from("127.0.0.1:8001"));
    let listener = TcpListener::bind(address)?;
    let gate = Arc::new(Gate::default());
    for connection in listener.incoming() {
        let (connection, gate) = (connection?, gate.clone());
        // A client that leaves ends its connection only.
        std::thread::spawn(move || drop(serve(connection, &gate)));
    }
    Ok(())
}

/// Answers the requests of a connection, none of which has a body.
fn serve(mut connection: TcpStream, gate: &Gate) -> std::io::Result<()> {
    while let Some((path, head)) = read(&mut connection)? {
        let closes = head.to_ascii_lowercase().contains("\r\nconnection: close\r\n");
        if let Some(code) = path.strip_prefix("/exit/") {
            std::process::exit(code.parse().unwrap_or(1));
        }
        match path.as_str() {
            "/slow" => gate.pass(),
            "/release" => gate.open(),
            _ => {}
        }
        let text = match path.as_str() {
            "/head" => head,
            _ => format!("{}\n", std::process::id()),
        };
        let length = text.len();
        write!(connection, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}")?;
        if closes {
            break;
        }
    }
    Ok(())
}

/// Reads the head of a request, and returns its path and the head. `None` at the end of the connection.
fn read(connection: &mut TcpStream) -> std::io::Result<Option<(String, String)>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if connection.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    Ok(head.split(' ').nth(1).map(str::to_owned).map(|path| (path, head)))
}
