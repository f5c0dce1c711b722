//! Limiters that make callers wait: the rate that they reach, its cost, and the order of callers.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use buttress::rate_limit::{Config, RateLimitLayer};
use governor::DefaultDirectRateLimiter;
use tower::{Layer, Service, ServiceExt};

use super::{POLLS, RATE, RATE_CPU, RATE_ORDER, finding, one_thread, time};
use crate::patterns::BUTTRESS;
use crate::peers::governor::quota;
use crate::peers::{GOVERNOR, LEAKY_BUCKET, TOWER_RESILIENCE, leaky_bucket, tower_resilience};
use crate::process::cpu_nanos;
use crate::workload::Succeeds;

const TASKS: usize = 8;
const PER_SECOND: u32 = 20_000;
const BURST: u32 = 100;
/// The time until the burst is over and the tasks take turns.
const SETTLE: Duration = Duration::from_millis(200);
const MEASURE: Duration = Duration::from_secs(2);
const WAITERS: u32 = 2_000;
const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3600);

/// A future token. All candidates have this box, which is small compared with a wait.
type Token = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The arrivals, and the callers that overtook earlier callers.
#[derive(Default)]
struct Line {
    arrived: AtomicU64,
    latest: AtomicU64,
    granted: AtomicU64,
    overtaken: AtomicU64,
}

impl Line {
    async fn wait(&self, token: Token) {
        let place = self.arrived.fetch_add(1, Relaxed) + 1;
        token.await;
        self.granted.fetch_add(1, Relaxed);
        let overtaken = place < self.latest.fetch_max(place, Relaxed);
        self.overtaken.fetch_add(overtaken.into(), Relaxed);
    }

    /// Returns the share of overtaken callers, in per cent.
    fn overtaken(&self) -> f64 {
        100.0 * self.overtaken.load(Relaxed) as f64 / self.granted.load(Relaxed) as f64
    }

    fn order(&self) -> String {
        match self.overtaken() {
            0.0 => "in order".to_owned(),
            share => format!("{share:.1} % overtaken"),
        }
    }
}

/// Measures a candidate. `make` is called on the runtime of the tasks.
fn rate<A: Fn() -> Token + Send + Sync + 'static>(candidate: &str, make: impl FnOnce() -> A) {
    one_thread().block_on(async {
        let (acquire, line) = (Arc::new(make()), Arc::new(Line::default()));
        for _ in 0..TASKS {
            let (acquire, line) = (acquire.clone(), line.clone());
            drop(tokio::spawn(async move {
                loop {
                    line.wait(acquire()).await;
                    // Tasks that got a token at the same instant continue first.
                    tokio::task::yield_now().await;
                }
            }));
        }
        tokio::time::sleep(SETTLE).await;
        let (began, granted, cpu) = (Instant::now(), line.granted.load(Relaxed), cpu_nanos());
        tokio::time::sleep(MEASURE).await;
        let (took, cpu) = (began.elapsed(), cpu_nanos().zip(cpu));
        let reached = (line.granted.load(Relaxed) - granted) as f64 / took.as_secs_f64();
        let text = format!("{reached:.0}/s");
        finding(RATE, candidate, reached / f64::from(PER_SECOND), &text);
        if let Some((now, then)) = cpu {
            let busy = 100.0 * (now - then) / took.as_nanos() as f64;
            finding(RATE_CPU, candidate, busy, &format!("{busy:.1} %"));
        }
        finding(RATE_ORDER, candidate, line.overtaken(), &line.order());
    });
}

/// Counts the polls of a future.
struct Polled<F> {
    future: F,
    polls: Arc<AtomicU64>,
}

impl<F: Future + Unpin> Future for Polled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.polls.fetch_add(1, Relaxed);
        Pin::new(&mut self.future).poll(cx)
    }
}

fn polls<A: Fn() -> Token>(candidate: &str, make: impl FnOnce() -> A) {
    let (polls, line) = (Arc::new(AtomicU64::new(0)), Arc::new(Line::default()));
    let (began, cpu) = (Instant::now(), cpu_nanos());
    one_thread().block_on(async {
        let acquire = make();
        let waits = (0..WAITERS).map(|_| {
            let (token, polls, line) = (acquire(), polls.clone(), line.clone());
            tokio::spawn(async move {
                Polled { future: pin!(line.wait(token)), polls }.await;
            })
        });
        for task in waits.collect::<Vec<_>>() {
            task.await.expect("a waiter failed");
        }
    });
    let each = polls.load(Relaxed) as f64 / f64::from(WAITERS);
    let cpu = cpu_nanos().zip(cpu).map(|(now, then)| time((now - then) / f64::from(WAITERS)));
    let cpu = cpu.unwrap_or_else(|| "–".to_owned());
    let (took, order) = (began.elapsed().as_secs_f64(), line.order());
    finding(POLLS, candidate, each, &format!("{each:.1}, {cpu} of CPU each, {took:.1} s, {order}"));
}

/// Calls clones, as frameworks do.
fn calls<S>(service: S) -> impl Fn() -> Token
where
    S: Service<u64, Error: std::fmt::Debug, Future: Send> + Clone + Send + Sync + 'static,
{
    move || {
        let service = service.clone();
        Box::pin(async move {
            drop(service.oneshot(0).await.expect("who waits long enough gets a token"));
        })
    }
}

fn buttress(per_second: u32, burst: u32) -> impl Fn() -> Token {
    let config = Config::new().max_tokens(burst).refill(per_second, SECOND);
    let layer = RateLimitLayer::new(config.queue(WAITERS).max_wait(LONG)).expect("valid");
    calls(layer.queued().layer(Succeeds))
}

fn governor(per_second: u32, burst: u32) -> impl Fn() -> Token {
    let limiter = Arc::new(DefaultDirectRateLimiter::direct(quota(per_second, burst)));
    move || {
        let limiter = limiter.clone();
        Box::pin(async move { limiter.until_ready().await })
    }
}

fn leaky(refill: usize, interval: Duration, max: usize) -> impl Fn() -> Token {
    let limiter = Arc::new(leaky_bucket::limiter(refill, interval, max));
    move || Box::pin(limiter.clone().acquire_owned(1))
}

pub fn run() {
    let millisecond = Duration::from_millis(1);
    let (tokens, burst) = (PER_SECOND as usize / 1000, BURST as usize);
    rate(BUTTRESS, || buttress(PER_SECOND, BURST));
    rate("buttress, burst 1", || buttress(PER_SECOND, 1));
    rate(GOVERNOR, || governor(PER_SECOND, BURST));
    rate("governor, burst 1", || governor(PER_SECOND, 1));
    // It loses time at each interval. Shorter intervals reach a lower rate, and longer ones need a
    // larger burst than the other candidates have.
    rate(LEAKY_BUCKET, || leaky(5 * tokens, 5 * millisecond, burst));
    rate(TOWER_RESILIENCE, || {
        calls(tower_resilience::token_bucket(Succeeds, tokens, millisecond, burst, LONG))
    });

    polls(BUTTRESS, || buttress(1000, 10));
    polls(GOVERNOR, || governor(1000, 10));
    polls(LEAKY_BUCKET, || leaky(10, 10 * millisecond, 10));
    polls("tower-resilience, 100 in 100 ms", || {
        calls(tower_resilience::fixed_window(Succeeds, 100, 100 * millisecond, LONG))
    });
}
