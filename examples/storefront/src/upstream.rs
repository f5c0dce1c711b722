//! The three services that the shop calls, each with its trouble.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::any;
use buttress::Clock;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::since;

/// The trouble of a service during a part of the script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// Every call hangs for two seconds, then fails.
    Outage,
    /// Every call takes 900 ms.
    Slow,
    /// Every call fails immediately, for 250 ms of every 500 ms.
    Flapping,
}

pub(crate) struct Act {
    pub service: &'static str,
    pub trouble: Trouble,
    pub from: Duration,
    pub to: Duration,
}

const fn act(service: &'static str, trouble: Trouble, from: u64, to: u64) -> Act {
    Act { service, trouble, from: Duration::from_secs(from), to: Duration::from_secs(to) }
}

pub(crate) const SCRIPT: &[Act] = &[
    act("payment", Trouble::Outage, 4, 9),
    act("pricing", Trouble::Slow, 11, 15),
    act("catalogue", Trouble::Flapping, 17, 21),
];
/// The length of the script. With `--serve` it then starts again.
pub(crate) const LENGTH: Duration = Duration::from_secs(24);
pub(crate) const SERVICES: [&str; 3] = ["catalogue", "pricing", "payment"];

/// The number of requests that a service handles concurrently. Further requests wait.
const WORKERS: usize = 64;
const WORK: Duration = Duration::from_millis(5);

/// One running service.
pub(crate) struct Upstream {
    pub name: &'static str,
    pub address: SocketAddr,
    state: Arc<Sick>,
}

struct Sick {
    name: &'static str,
    start: Instant,
    looping: bool,
    workers: Semaphore,
    calls: AtomicU64,
    calls_while_sick: AtomicU64,
}

impl Upstream {
    /// Returns the number of all calls to the service, and of the calls during its trouble.
    pub(crate) fn calls(&self) -> (u64, u64) {
        let state = &self.state;
        (state.calls.load(Ordering::Relaxed), state.calls_while_sick.load(Ordering::Relaxed))
    }
}

/// The three services of one shop.
pub(crate) struct Upstreams {
    pub all: Vec<Upstream>,
}

impl Upstreams {
    pub(crate) async fn start(start: Instant, looping: bool) -> std::io::Result<Self> {
        let mut all = Vec::new();
        for name in SERVICES {
            let state = Arc::new(Sick {
                name,
                start,
                looping,
                workers: Semaphore::new(WORKERS),
                calls: AtomicU64::new(0),
                calls_while_sick: AtomicU64::new(0),
            });
            let router = Router::new().fallback(any(answer)).with_state(state.clone());
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            tokio::spawn(axum::serve(listener, router).into_future());
            all.push(Upstream { name, address, state });
        }
        Ok(Self { all })
    }
}

impl Sick {
    fn trouble(&self) -> Option<Trouble> {
        let now = since(self.start);
        let now = if self.looping {
            Duration::from_millis((now.as_millis() % LENGTH.as_millis()) as u64)
        } else {
            now
        };
        let mut acts = SCRIPT.iter().filter(|act| act.service == self.name);
        let trouble = acts.find(|act| (act.from..act.to).contains(&now)).map(|act| act.trouble)?;
        let up = trouble == Trouble::Flapping && now.as_millis() % 500 >= 250;
        (!up).then_some(trouble)
    }
}

async fn answer(State(sick): State<Arc<Sick>>) -> (StatusCode, &'static str) {
    sick.calls.fetch_add(1, Ordering::Relaxed);
    let trouble = sick.trouble();
    if trouble.is_some() {
        sick.calls_while_sick.fetch_add(1, Ordering::Relaxed);
    }
    let clock = Clock::default();
    let Ok(_worker) = sick.workers.acquire().await else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "closed");
    };
    match trouble {
        None => clock.sleep(WORK).await,
        Some(Trouble::Slow) => clock.sleep(Duration::from_millis(900)).await,
        Some(Trouble::Outage) => {
            clock.sleep(Duration::from_secs(2)).await;
            return (StatusCode::INTERNAL_SERVER_ERROR, "down");
        }
        Some(Trouble::Flapping) => return (StatusCode::SERVICE_UNAVAILABLE, "flapping"),
    }
    match sick.name {
        "pricing" => (StatusCode::OK, "1900"),
        _ => (StatusCode::OK, "ok"),
    }
}
