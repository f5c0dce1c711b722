//! A process that is measured.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Error;

/// Returns an address of this machine that is free.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// A running server. It ends with this value.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts a program that listens on `address`, and waits until it does.
    pub fn start(mut command: Command, address: SocketAddr) -> Result<Self, Error> {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn()?;
        let mut server = Self { address, child };
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(format!("it ended with {status}").into());
            }
            if begin.elapsed() > Duration::from_secs(20) {
                return Err("it does not listen after 20 seconds".into());
            }
            sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// The microseconds that the process has run: `utime` and `stime` of `/proc`, in ticks of 10 ms.
    pub fn cpu_micros(&self) -> Result<f64, Error> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name of the program is in brackets, and may contain spaces.
        let (_, fields) = text.rsplit_once(')').ok_or("no name in stat")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
        Ok(ticks.sum::<Result<f64, _>>()? * 10_000.0)
    }

    /// The open sockets: those of clients, of backends, and the one that listens.
    pub fn sockets(&self) -> Result<usize, Error> {
        let mut sockets = 0;
        for entry in fs::read_dir(format!("/proc/{}/fd", self.child.id()))? {
            // A descriptor that is closed meanwhile has no target.
            let target = fs::read_link(entry?.path()).unwrap_or_default();
            sockets += usize::from(target.to_string_lossy().starts_with("socket:"));
        }
        Ok(sockets)
    }

    /// The resident memory in KiB.
    pub fn resident_kib(&self) -> Result<f64, Error> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let value = line.and_then(|line| line.split_whitespace().next());
        Ok(value.ok_or("no VmRSS")?.parse()?)
    }

    /// Closes standard input, and waits until the server ends by itself.
    pub fn finish(mut self) -> Result<ExitStatus, Error> {
        drop(self.child.stdin.take());
        Ok(self.child.wait()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that has ended is no error.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
