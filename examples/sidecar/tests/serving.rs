//! Requests through the sidecar, to a service that crashes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(dead_code, reason = "another test uses the rest of the support")]

mod support;

use std::net::SocketAddr;

use rustix::process::Signal;
use support::{Sidecar, crash, eventually, free, get, try_send, try_send_with};

const FRAGILE: &str = env!("CARGO_BIN_EXE_fragile");

/// Starts a sidecar in front of the fragile service. Returns it, and the addresses of both and of its health.
fn start(options: &[&str], command: &[&str]) -> (Sidecar, SocketAddr, SocketAddr, SocketAddr) {
    let service = free();
    let (to, at) = (format!("http://{service}"), service.to_string());
    let listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--to", &to];
    let sidecar = Sidecar::run(&[&listen[..], options, &["--"], command, &[at.as_str()]].concat());
    let front = sidecar.address("listens on");
    let admin = sidecar.address("health and metrics on");
    (sidecar, front, service, admin)
}

/// Waits until the service answers through the sidecar, and returns its process id.
fn served(front: SocketAddr) -> String {
    let mut body = String::new();
    eventually("the service answers", || {
        let answer = get(front, "/");
        body = answer.body.trim().to_owned();
        // Nothing else may come of a service that starts.
        assert!(["200", "503"].contains(&&*answer.status), "{answer:?}");
        answer.status == "200"
    });
    body
}

#[test]
fn a_service_that_is_down_is_answered_with_503_and_retry_after() {
    let (sidecar, front, _, admin) = start(&[], &["sh", "-c", "echo started; exec sleep 1000"]);
    assert_eq!(sidecar.line(), "started");
    for path in ["/", "/a/b?c"] {
        let answer = get(front, path);
        assert_eq!((&*answer.status, answer.field("retry-after")), ("503", Some("1")));
        assert_eq!(answer.field("content-type"), Some("application/problem+json"));
        assert!(answer.body.contains(r#""kind":"service-down""#), "{answer:?}");
    }
    assert_eq!(get(admin, "/live").status, "200");
    assert_eq!(get(admin, "/ready").status, "503");
    let metrics = get(admin, "/metrics").body;
    assert!(metrics.contains("sidecar_requests{end=\"down\"} 2"), "{metrics}");
}

#[test]
fn a_crash_costs_its_request_and_the_next_child_answers_with_a_closed_circuit() {
    let (mut sidecar, front, _, admin) = start(&[], &[FRAGILE]);
    let mut last = served(front);
    eventually("it is ready", || get(admin, "/ready").status == "200");
    for _ in 0..3 {
        crash(front);
        sidecar.message("the command ended: code 3");
        let present = served(front);
        assert_ne!(present, last);
        last = present;
    }
    let metrics = get(admin, "/metrics").body;
    assert!(metrics.contains("buttress_circuit_breaker"), "{metrics}");
    let starts = metrics.lines().find(|line| line.starts_with("sidecar_starts ")).unwrap();
    assert_eq!(starts, "sidecar_starts 4");
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 143);
}

/// Regression: the sidecar removed all of it, and each hop through a sidecar began a new trace without a deadline.
#[test]
fn edge_1_7_the_service_gets_the_trace_the_id_and_the_time_that_its_caller_has_left() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let fields = format!(
        "traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\nx-correlation-id: order-7\r\n\
         x-request-timeout-ms: 7000\r\nx-forwarded-for: 10.1.2.3\r\n"
    );
    for (options, is_believed) in [(&[][..], true), (&["--trust", "none"], false)] {
        let (_sidecar, front, _, _) = start(options, &[FRAGILE]);
        served(front);
        let head = try_send_with(front, "GET", "/head", &fields).unwrap().body;
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim_start_matches(": ").to_owned())
        };
        assert_eq!(head.contains(TRACE), is_believed, "{head}");
        assert_eq!(head.contains("x-correlation-id: order-7\r\n"), is_believed, "{head}");
        assert_eq!(head.contains("10.1.2.3, 127.0.0.1"), is_believed, "{head}");
        if is_believed {
            let left: u64 = field("x-request-timeout-ms").unwrap().parse().unwrap();
            assert!(left <= 7000, "{head}");
        }
    }
}

#[test]
fn a_stop_lets_the_child_finish_its_requests_and_refuses_new_ones() {
    let script = "trap '' TERM; exec \"$0\" \"$1\"";
    let (mut sidecar, front, service, admin) = start(&[], &["sh", "-c", script, FRAGILE]);
    served(front);
    let slow = std::thread::spawn(move || get(front, "/slow"));
    eventually("the slow request has begun", || {
        get(admin, "/metrics").body.contains("sidecar_requests_open 1")
    });
    sidecar.signal(Signal::TERM);
    eventually("no new connection", || try_send(front, "GET", "/").is_none());
    assert_eq!(get(admin, "/ready").status, "503");
    assert_eq!(get(admin, "/live").status, "200");
    assert!(!slow.is_finished());
    get(service, "/release");
    assert_eq!(slow.join().unwrap().status, "200");
    assert!(try_send(service, "POST", "/exit/0").is_none());
    assert_eq!(sidecar.code(), 0);
    sidecar.message("ends with code 0");
}

#[test]
fn the_limits_of_the_file_are_used() {
    let file = std::env::temp_dir().join(format!("sidecar-{}.toml", std::process::id()));
    let limit = "rate-limiter = { max-tokens = 2, refill-tokens = 1, refill-period = \"1h\" }\n";
    std::fs::write(&file, limit).unwrap();
    let (_sidecar, front, _, admin) = start(&["--config", file.to_str().unwrap()], &[FRAGILE]);
    // A request that the service does not get spends no token.
    served(front);
    assert_eq!(get(front, "/").status, "200");
    assert_eq!(get(front, "/").status, "429");
    eventually("it is ready", || get(admin, "/ready").status == "200");
    std::fs::remove_file(file).unwrap();
}
