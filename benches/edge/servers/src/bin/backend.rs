//! The backend of all proxies. It does as little as possible, so that a proxy is the slowest part.

use servers::{Error, listen, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn main() -> Result<(), Error> {
    let addresses = std::env::args().nth(1).ok_or("usage: LISTEN,LISTEN,..")?;
    let addresses: Result<Vec<_>, _> = addresses.split(',').map(str::parse).collect();
    let addresses = addresses?;
    run(async move {
        let mut tasks = Vec::new();
        for address in addresses {
            let listener = listen(address)?;
            tasks.push(tokio::spawn(async move {
                while let Ok((io, _)) = listener.accept().await {
                    tokio::spawn(serve(io));
                }
            }));
        }
        for task in tasks {
            task.await?;
        }
        Ok(())
    })
}

fn answer(length: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nserver: backend\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    let mut answer = head.into_bytes();
    answer.resize(answer.len() + length, b'x');
    answer
}

/// Answers each request head: `/big` with 1 MiB, an upgrade with an echo of all bytes, and all others with 1 KiB.
async fn serve(mut io: TcpStream) -> std::io::Result<()> {
    io.set_nodelay(true)?;
    let (small, big) = (answer(1024), answer(1024 * 1024));
    let mut buffer = Vec::with_capacity(4096);
    loop {
        if io.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head: Vec<u8> = buffer.drain(..end + 4).collect();
        if head.windows(9).any(|bytes| bytes.eq_ignore_ascii_case(b"\nupgrade:")) {
            io.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
            )
            .await?;
            return echo(io, buffer).await;
        }
        let is_big = head.windows(4).any(|bytes| bytes == b"/big");
        io.write_all(if is_big { &big } else { &small }).await?;
    }
}

async fn echo(mut io: TcpStream, mut buffer: Vec<u8>) -> std::io::Result<()> {
    buffer.reserve(64 * 1024);
    loop {
        io.write_all(&buffer).await?;
        buffer.clear();
        if io.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}
