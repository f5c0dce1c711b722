//! Health: who runs the checks and when, what ready-made checks say, and the endpoints.

mod endpoints;
mod runs;
mod watched;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use buttress::Clock;
use buttress::health::{CheckReport, Finding, Health, Importance, Status};

/// Counts the runs of a check.
#[derive(Clone, Default)]
struct Runs(Arc<AtomicU32>);

impl Runs {
    fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// A check that counts its runs and succeeds.
    fn check(&self) -> impl Fn() -> std::future::Ready<Result<(), String>> + Send + Sync + 'static {
        let runs = self.clone();
        move || {
            runs.0.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Ok(()))
        }
    }
}

fn fine() -> impl Future<Output = Result<(), String>> + Send + 'static {
    std::future::ready(Ok(()))
}

fn orders() -> Health {
    Health::new("orders", "1.4.0")
}

fn critical<F>(health: Health, look: impl Fn() -> F + Send + Sync + 'static) -> Health
where
    F: Future<Output: Into<Finding>> + Send + 'static,
{
    health.check("db", Importance::Critical, look).unwrap()
}

fn check(health: &Health, name: &str) -> CheckReport {
    let mut checks = health.report().checks;
    let at = checks.iter().position(|check| check.name.as_str() == name).unwrap();
    checks.swap_remove(at)
}

fn found(health: &Health, name: &str) -> (Status, Option<String>) {
    let check = check(health, name);
    (check.status, check.text)
}

fn down(text: &str) -> (Status, Option<String>) {
    (Status::Down, Some(text.to_owned()))
}

fn now() -> Instant {
    Clock::default().now()
}

/// Waits on the paused clock until `second` has passed since `start`, and lets every task run that is
/// due by then.
async fn until(start: Instant, seconds: u64) {
    Clock::default().sleep_until(start + Duration::from_secs(seconds)).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}
