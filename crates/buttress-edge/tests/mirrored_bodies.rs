//! Long answers of a route and of its mirror. A separate process, because the memory of the process is measured.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![cfg(target_os = "linux")]

use std::net::SocketAddr;

use buttress::shadow;
use buttress_edge::{Config, Proxy, Route, RouteShadow, Upstream, serve};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const MIB: usize = 1024 * 1024;
const CHUNK: usize = 64 * 1024;
const LONG: usize = 16 * MIB;

/// The most resident memory that this process has had, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Answers `/n` with n bytes. An endless backend sends more for as long as its connection takes them.
async fn backend(listener: TcpListener, endless: bool) {
    loop {
        let (mut io, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let chunk = [vec![b'x'; CHUNK], b"\r\n".to_vec()].concat();
            while let Some(head) = read_head(&mut io).await {
                let length = head.split(['/', ' ']).nth(2).unwrap();
                let length: usize = length.parse().unwrap();
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                io.write_all(head.as_bytes()).await.unwrap();
                let mut left = length / CHUNK;
                while left > 0 || endless {
                    let size = format!("{CHUNK:x}\r\n");
                    if io.write_all(size.as_bytes()).await.is_err()
                        || io.write_all(&chunk).await.is_err()
                    {
                        return;
                    }
                    left = left.saturating_sub(1);
                }
                io.write_all(b"0\r\n\r\n").await.unwrap();
            }
        });
    }
}

async fn listen(endless: bool) -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(backend(listener, endless));
    Upstream::fixed([url]).unwrap()
}

/// Reads an answer of `length` bytes, and waits for the end of its comparison.
async fn compare(gateway: SocketAddr, length: usize, shadow: &RouteShadow) {
    let mut io = TcpStream::connect(gateway).await.unwrap();
    let head = format!("GET /{length} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    io.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut io).await.unwrap().starts_with("HTTP/1.1 200 "));
    let (mut buffer, mut total) = (vec![0; CHUNK], 0);
    loop {
        let read = io.read(&mut buffer).await.unwrap();
        if read == 0 {
            break;
        }
        total += buffer[..read].iter().filter(|byte| **byte == b'x').count();
    }
    assert_eq!(total, length);
    while shadow.handle().stats().running > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn edge_3_10_to_compare_long_answers_takes_no_memory_in_proportion() {
    for endless in [false, true] {
        let config = shadow::Config::new().share(1.0).within(std::time::Duration::from_secs(300));
        let shadow = RouteShadow::new(listen(endless).await, config).unwrap();
        let shadow = shadow.max_compared_body(LONG as u64);
        let route = Route::new("all").to(listen(false).await).shadow(shadow.clone()).public();
        let gateway = Proxy::new(Config::new(), [route]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, gateway.clone()).into_future());
        // The first request makes connections and their buffers.
        compare(address, MIB, &shadow).await;
        let before = peak();
        compare(address, LONG, &shadow).await;
        // The kernel counts each thread's pages late.
        let growth = peak().saturating_sub(before);
        assert!(growth < 4 * MIB, "{endless}: {growth} bytes more");
        let stats = shadow.handle().stats();
        let expected = if endless { (0, 2) } else { (2, 0) };
        assert_eq!((stats.same, stats.different), expected, "{stats:?}");
        assert_eq!(shadow.mismatches().body, stats.different);
    }
}
