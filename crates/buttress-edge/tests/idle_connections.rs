//! Idle connections: a process with the gateway, and one that holds the connections, each with its own descriptors.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use buttress_edge::{Config, Proxy, serve};
use tokio::net::TcpListener;

const COUNT: usize = 10_000;
/// What this process does. The test sets it for the processes that it starts.
const ROLE: &str = "BUTTRESS_EDGE_IDLE_ROLE";
const TEST: &str = "edge_2_46_ten_thousand_idle_connections_take_less_than_100_mib";

/// Starts this program again, with as many descriptors as the system allows.
fn start(role: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n $(ulimit -Hn); exec \"$@\"", "sh"]);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", TEST, "--nocapture"]);
    command.env(ROLE, role).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// Returns what a line of the process says after `mark`.
fn wait_for(process: &mut Child, mark: &str) -> String {
    let mut lines = BufReader::new(process.stdout.as_mut().unwrap()).lines();
    let line = lines.find_map(|line| Some(line.unwrap().split_once(mark)?.1.to_owned()));
    line.unwrap_or_else(|| panic!("ended before {mark}"))
}

fn resident_kib(process: &Child) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn wait_for_the_end_of_input() {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Serves until standard input closes.
fn gateway() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("listens:{}", listener.local_addr().unwrap());
        let gateway = Proxy::new(Config::new(), []).unwrap();
        let serve = serve(listener, gateway).max_connections(20_000).max_per_address(20_000);
        // No connection ends during the test.
        let serve = serve.head_limit(std::time::Duration::from_secs(600));
        tokio::select! {
            served = serve => panic!("{served:?}"),
            ended = tokio::task::spawn_blocking(wait_for_the_end_of_input) => ended.unwrap(),
        }
    });
}

/// Opens connections and holds them.
fn clients(address: SocketAddr) {
    let mut connections = Vec::new();
    while connections.len() < COUNT {
        // As many as the queue of the listener holds.
        for _ in 0..500 {
            connections.push(TcpStream::connect(address).unwrap());
        }
        // Connections are accepted in order: the gateway has all of them once it answers on the last one.
        let last = connections.last_mut().unwrap();
        last.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = [0; 1024];
        let length = last.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 404 "));
    }
    println!("held:{}", connections.len());
    wait_for_the_end_of_input();
}

#[test]
fn edge_2_46_ten_thousand_idle_connections_take_less_than_100_mib() {
    match std::env::var(ROLE) {
        Ok(role) if role == "gateway" => return gateway(),
        Ok(role) => return clients(role.parse().unwrap()),
        Err(_) => {}
    }
    let limit = Command::new("sh").args(["-c", "ulimit -Hn"]).output().unwrap().stdout;
    let limit = String::from_utf8(limit).unwrap();
    if limit.trim().parse::<usize>().is_ok_and(|limit| limit < COUNT + 2_000) {
        println!("skipped: the hard limit of descriptors is {}", limit.trim());
        return;
    }
    let mut gateway = start("gateway");
    let address = wait_for(&mut gateway, "listens:");
    let before = resident_kib(&gateway);
    let mut clients = start(&address);
    assert_eq!(wait_for(&mut clients, "held:"), COUNT.to_string());
    let resident = resident_kib(&gateway);
    println!("{resident} KiB with {COUNT} idle connections, {before} KiB without");
    for mut process in [clients, gateway] {
        drop(process.stdin.take());
        assert!(process.wait().unwrap().success());
    }
    assert!(resident < 100 * 1024, "{resident} KiB");
}
