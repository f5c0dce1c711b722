//! A process without a free file descriptor. The test starts itself again with a low limit.
#![allow(clippy::unwrap_used, clippy::panic)]
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use buttress::CircuitState;
use buttress::circuit_breaker::{CircuitBreakerLayer, Config as Circuit};
use buttress_edge::{Body, Config, Proxy, Route, Upstream, serve};
use http::{Request, StatusCode};
use tower::Service;

/// What this process does. The test sets it for the process that it starts.
const ROLE: &str = "BUTTRESS_EDGE_DESCRIPTORS_ROLE";

/// Runs `role` in a process with a limit of 128 descriptors. The role runs in `test`.
fn with_few(test: &str, role: fn()) {
    if std::env::var(ROLE).is_ok() {
        return role();
    }
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 128; exec \"$@\"", "sh"]);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test]);
    let output = command.env(ROLE, "few").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_lack_of_descriptors_opens_no_circuit() {
    with_few("a_lack_of_descriptors_opens_no_circuit", || {
        runtime().block_on(async {
            let backend = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = backend.local_addr().unwrap().port();
            let circuit = CircuitBreakerLayer::new(Circuit::new().consecutive_failures(1)).unwrap();
            // An address, and a name that has to be looked up.
            for host in ["127.0.0.1", "localhost"] {
                let upstream = Upstream::fixed([format!("http://{host}:{port}")]).unwrap();
                let route = Route::new("all").to(upstream).public();
                let route = route.circuit_breaker(circuit.handle());
                let mut proxy = Proxy::new(Config::new(), [route]).unwrap();
                let mut files = Vec::new();
                while let Ok(file) = File::open("/dev/null") {
                    files.push(file);
                }
                let request = Request::get("/").header("host", "a").body(Body::empty()).unwrap();
                let response = proxy.call(request).await.unwrap();
                drop(files);
                assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{host}");
                let stats = proxy.stats().remove(0).1;
                assert_eq!((stats.refused.at_capacity, stats.failed), (1, 0), "{host}");
            }
            assert_eq!(circuit.handle().state(), CircuitState::Closed);
        });
    });
}

#[test]
fn edge_2_50_the_default_cap_leaves_a_descriptor_for_each_backend() {
    with_few("edge_2_50_the_default_cap_leaves_a_descriptor_for_each_backend", || {
        runtime().block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let proxy = Proxy::new(Config::new(), []).unwrap();
            let clients = tokio::task::spawn_blocking(move || {
                // 64 of 128 are for other files, and each of 32 clients has one more for a backend.
                let connect = |_| TcpStream::connect(address).unwrap();
                let mut clients: Vec<TcpStream> = (0..33).map(connect).collect();
                let mut refused = clients.pop().unwrap();
                refused.read(&mut [0]).unwrap_or(0)
            });
            let serve = serve(listener, proxy).drain(Duration::ZERO);
            let served = serve.until(async { assert_eq!(clients.await.unwrap(), 0) }).await;
            assert_eq!((served.accepted, served.refused), (32, 1));
        });
    });
}
