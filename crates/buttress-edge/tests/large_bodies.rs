//! Bodies of 1 GiB. A separate process, because the memory of the process is measured.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![cfg(target_os = "linux")]

use std::net::SocketAddr;

use buttress_edge::{Config, Proxy, Route, Upstream, serve};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const MIB: usize = 1024 * 1024;
const GIB: usize = 1024 * MIB;
const CHUNK: usize = 64 * 1024;

/// The resident memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Reads `length` bytes, and returns the most memory that the process had.
async fn read(io: &mut (impl AsyncRead + Unpin), length: usize) -> usize {
    let (mut buffer, mut left, mut most) = (vec![0; CHUNK], length, 0);
    let mut seen = left;
    while left > 0 {
        let read = io.read(&mut buffer).await.unwrap();
        assert!(read > 0, "{left} bytes are missing");
        left -= read;
        if seen - left >= 16 * MIB {
            seen = left;
            most = most.max(resident());
        }
    }
    most.max(resident())
}

async fn write(io: &mut (impl AsyncWrite + Unpin), length: usize) {
    let chunk = vec![b'x'; CHUNK];
    for _ in 0..length / CHUNK {
        io.write_all(&chunk).await.unwrap();
    }
}

/// Answers each request with a body as long as the request's, while it still reads that one.
async fn backend(listener: TcpListener) {
    loop {
        let (mut io, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            loop {
                let head = read_head(&mut io).await;
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.unwrap().parse().unwrap();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                io.write_all(answer.as_bytes()).await.unwrap();
                let (mut reader, mut writer) = io.split();
                tokio::join!(read(&mut reader, length), write(&mut writer, length - CHUNK));
                // An answer that ends before the upload would end the upload.
                write(&mut io, CHUNK).await;
            }
        });
    }
}

/// Sends and receives `length` bytes at the same time, and returns the most memory that the process had.
async fn exchange(gateway: SocketAddr, length: usize) -> usize {
    let mut io = TcpStream::connect(gateway).await.unwrap();
    let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    io.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut io).await.starts_with("HTTP/1.1 200 "));
    let (mut reader, mut writer) = io.split();
    tokio::join!(read(&mut reader, length), write(&mut writer, length)).0
}

#[tokio::test]
async fn edge_2_16_a_gibibyte_each_way_takes_less_than_4_mib_of_memory() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(backend(listener));
    let route = Route::new("all").to(Upstream::fixed([url]).unwrap()).public();
    let gateway = Proxy::new(Config::new(), [route]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, gateway.clone()).into_future());
    // The first request makes connections and their buffers.
    let before = exchange(address, 32 * MIB).await;
    let most = exchange(address, GIB).await;
    let growth = most.saturating_sub(before);
    println!("{} KiB before, {} KiB more at most", before / 1024, growth / 1024);
    assert!(growth < 4 * MIB, "{growth} bytes more");
    assert_eq!(gateway.stats()[0].1.answered, 2);
}
