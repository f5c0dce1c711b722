//! What the programs share: a runtime with one worker, an end when standard input closes, and the measurement of calls.

pub mod calls;
// Shared with the other workspace of benchmarks.
#[path = "../../../src/process.rs"]
#[allow(dead_code, reason = "the other workspace uses the rest")]
mod process;

use std::future::Future;
use std::net::SocketAddr;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// Any error of a server.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Runs a server on one worker thread until standard input closes.
///
/// Every proxy has one worker: the load and the backend need the other processor.
pub fn run<F>(server: F) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    runtime()?.block_on(async {
        let server = tokio::spawn(server);
        tokio::select! {
            ended = server => ended?,
            () = closed() => Ok(()),
        }
    })
}

/// Makes a runtime with one worker thread.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

/// Waits until standard input closes.
async fn closed() {
    let mut byte = [0];
    while tokio::io::stdin().read(&mut byte).await.is_ok_and(|read| read > 0) {}
}

/// The address to listen on, and the addresses of the backends: the first two arguments.
pub fn addresses() -> Result<(SocketAddr, Vec<String>), Error> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(backends)) = (arguments.next(), arguments.next()) else {
        return Err("usage: LISTEN BACKEND,BACKEND,..".into());
    };
    Ok((listen.parse()?, backends.split(',').map(str::to_owned).collect()))
}

/// Listens with a backlog that the connections of a measurement fit in.
pub fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket.listen(4096)?)
}
