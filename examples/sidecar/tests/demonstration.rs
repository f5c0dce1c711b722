//! A demonstration that ends by itself: clients call a service that crashes four times under the load.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(dead_code, reason = "another test uses the rest of the support")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use support::{Sidecar, crash, eventually, free, get};

const CLIENTS: u64 = 4;
/// The answers of the service between two crashes.
const EACH: u64 = 50;
const CRASHES: u64 = 4;

#[test]
fn every_request_has_an_answer_while_the_service_crashes_four_times() {
    let service = free();
    let sidecar_arguments = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--to"];
    let (to, at) = (format!("http://{service}"), service.to_string());
    let command = [to.as_str(), "--", env!("CARGO_BIN_EXE_fragile"), at.as_str()];
    let mut sidecar = Sidecar::run(&[&sidecar_arguments[..], &command].concat());
    let front = sidecar.address("listens on");
    let admin = sidecar.address("health and metrics on");

    let good = Arc::new(AtomicU64::new(0));
    let answers = Arc::new(Mutex::new(BTreeMap::<String, u64>::new()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (good, answers) = (good.clone(), answers.clone());
            std::thread::spawn(move || {
                // Until the service has answered often enough after its last crash.
                while good.load(Ordering::Relaxed) < EACH * (CRASHES + 1) {
                    let answer = get(front, "/");
                    if answer.status == "503" {
                        assert!(answer.field("retry-after").is_some(), "{answer:?}");
                    }
                    good.fetch_add(u64::from(answer.status == "200"), Ordering::Relaxed);
                    *answers.lock().unwrap().entry(answer.status).or_default() += 1;
                }
            })
        })
        .collect();
    for number in 1..=CRASHES {
        eventually("the service has answered", || good.load(Ordering::Relaxed) >= EACH * number);
        crash(front);
        sidecar.message("the command ended: code 3");
    }
    for client in clients {
        client.join().unwrap();
    }
    let metrics = get(admin, "/metrics").body;
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 143);

    let answers = answers.lock().unwrap();
    println!("answers by status: {answers:?}");
    assert!(answers["200"] >= EACH * (CRASHES + 1));
    // 502: the crash cut the request off. 503: there was no service. Nothing else happens.
    assert!(answers.keys().all(|status| ["200", "502", "503"].contains(&&**status)), "{answers:?}");
    assert!(metrics.contains("\nsidecar_starts 5\n"), "{metrics}");
    assert!(metrics.contains("\nsidecar_failures 4\n"), "{metrics}");
}
