//! The load of a tunnel: 8 upgraded connections, each with blocks of 16 KiB that come back.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;
use crate::client::{Client, SMALL};

const CONNECTIONS: usize = 8;
const BLOCK: usize = 16 * 1024;

/// Returns the bytes per second in each direction.
pub fn run(address: SocketAddr, seconds: u64) -> Result<f64, Error> {
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    let one = || -> io::Result<usize> {
        let mut io = Client::connect(address)?.upgrade(SMALL)?;
        let (sent, mut received) = (vec![7; BLOCK], vec![0; BLOCK]);
        let mut bytes = 0;
        while Instant::now() < end {
            io.write_all(&sent)?;
            io.read_exact(&mut received)?;
            bytes += BLOCK;
        }
        if received == sent { Ok(bytes) } else { Err(io::Error::other("other bytes came back")) }
    };
    let all = thread::scope(|scope| {
        let all: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let mut bytes = 0;
    for each in all {
        bytes += each.map_err(|_| "a thread of the load panicked")??;
    }
    Ok(bytes as f64 / begin.elapsed().as_secs_f64())
}
