//! User transactions concurrent with other work of the database.

use std::future::Future;
use std::time::{Duration, Instant};

use buttress_durable::outbox::Outbox;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::USERS;
use super::base::Base;
use super::order::{KEYS, payload};
use crate::probes::{finding, time};

/// The times of a transaction, in nanoseconds.
struct Taken {
    /// The time until it may write.
    wait: f64,
    /// The time until it was committed.
    whole: f64,
}

/// The times of all users.
#[derive(Default)]
pub struct Users {
    taken: Vec<Taken>,
    lasted: Duration,
}

async fn transact<B: Base>(outbox: Outbox<B>, number: i64, came: Instant) -> Taken {
    let mut tx = outbox.store().begin_tx().await;
    let wait = came.elapsed();
    B::pay(&mut tx, number).await;
    let message = outbox.message(format!("user-{number}"), payload(KEYS, number as u64));
    let written = outbox.write(&mut tx, message).await.expect("room for a message");
    B::commit(tx).await;
    let whole = came.elapsed();
    written.committed();
    Taken { wait: wait.as_nanos() as f64, whole: whole.as_nanos() as f64 }
}

impl Users {
    /// Runs user transactions until `work` is done. Each begins at its time, whether or not the
    /// earlier ones have ended.
    pub async fn beside<B: Base, T>(
        outbox: &Outbox<B>,
        work: impl Future<Output = T>,
    ) -> (Self, T) {
        let (began, mut tasks, mut work) = (Instant::now(), JoinSet::new(), std::pin::pin!(work));
        let mut times = interval(Duration::from_secs(1) / USERS);
        times.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut number = 0;
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                at = times.tick() => {
                    number += 1;
                    tasks.spawn(transact(outbox.clone(), number, at.into_std()));
                }
            }
        };
        let lasted = began.elapsed();
        (Self { taken: tasks.join_all().await, lasted }, done)
    }

    pub fn add(&mut self, other: Self) {
        self.taken.extend(other.taken);
        self.lasted += other.lasted;
    }

    /// Prints the 99th percentile, with milliseconds as the value.
    pub fn report(&self, what: &str, who: &str) {
        let at = |share: f64, of: fn(&Taken) -> f64| {
            let mut values: Vec<f64> = self.taken.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[((values.len() - 1) as f64 * share) as usize]
        };
        let whole: fn(&Taken) -> f64 = |taken| taken.whole;
        let rate = self.taken.len() as f64 / self.lasted.as_secs_f64();
        let text = format!(
            "{} (wait {}, p50 {}, longest {}), {rate:.0}/s",
            time(at(0.99, whole)),
            time(at(0.99, |taken| taken.wait)),
            time(at(0.5, whole)),
            time(at(1.0, whole)),
        );
        finding(what, who, at(0.99, whole) / 1e6, &text);
    }
}
