//! The rounds: in each, one of two workers is killed and replaced.

use std::process::{Child, Command};
use std::time::Duration;

use buttress::{Clock, Rng};
use tower::BoxError;

use crate::account;
use crate::database::Place;
use crate::worker::{Duty, Share};

/// The time between two kills, in milliseconds.
const PAUSE: (u64, u64) = (50, 150);
/// The time limit of the last worker for the remaining work.
const LAST_WORK: Duration = Duration::from_secs(60);

pub(crate) struct Rounds {
    kills: u64,
    seed: u64,
}

impl Rounds {
    pub(crate) fn from_environment() -> Result<Self, BoxError> {
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text.parse().map_err(|error| format!("{name}: {error}")),
            Err(_) => Ok(default),
        };
        let any = Clock::default().unix().as_nanos() as u64;
        Ok(Self {
            kills: number("BUTTRESS_SIGKILL_ROUNDS", 100)?,
            seed: number("BUTTRESS_SIGKILL_SEED", any)?,
        })
    }

    /// Runs the rounds on the database at `place`. Returns whether the account balances.
    pub(crate) async fn run<D>(&self, name: &str, place: &Place) -> Result<bool, BoxError>
    where
        D: account::Answers,
    {
        let (clock, rng) = (Clock::default(), Rng::seeded(self.seed));
        println!("{name}: {} rounds, BUTTRESS_SIGKILL_SEED={}", self.kills, self.seed);
        let start = clock.now();
        let database = D::open_at(place).await?;
        account::create_tables(&database).await?;
        let hire =
            |share| Worker::hire(&Duty { place: place.clone(), share, seed: rng.next_u64() });
        let mut pair = (hire(Share::Even)?, hire(Share::Odd)?);
        for _ in 0..self.kills {
            clock.sleep(Duration::from_millis(rng.between(PAUSE.0, PAUSE.1))).await;
            if rng.between(0, 1) == 0 {
                pair.0.kill()?;
                pair.0 = hire(Share::Even)?;
            } else {
                pair.1.kill()?;
                pair.1 = hire(Share::Odd)?;
            }
        }
        pair.0.kill()?;
        pair.1.kill()?;
        let killing = clock.now().saturating_duration_since(start);
        let mut last = hire(Share::WhatIsLeft)?;
        let give_up = clock.now() + LAST_WORK;
        while last.process.try_wait()?.is_none() && clock.now() < give_up {
            clock.sleep(Duration::from_millis(20)).await;
        }
        match last.process.try_wait()? {
            Some(status) if status.success() => {}
            other => println!("{name}: WRONG: the last worker: {other:?}"),
        }
        drop(last);
        let account = account::draw_up(&database, self.kills).await?;
        let took = clock.now().saturating_duration_since(start);
        println!("{account}");
        println!(
            "{name}: {:.1} s of killing, {:.1} s in all",
            killing.as_secs_f64(),
            took.as_secs_f64()
        );
        Ok(account.balances())
    }
}

/// A worker process that is killed on drop.
struct Worker {
    process: Child,
}

impl Worker {
    fn hire(duty: &Duty) -> Result<Self, BoxError> {
        let mut command = Command::new(std::env::current_exe()?);
        duty.pass_to(&mut command)?;
        Ok(Self { process: command.spawn()? })
    }

    /// Sends SIGKILL. Fails if the worker has already ended by itself.
    fn kill(&mut self) -> Result<(), BoxError> {
        if let Some(status) = self.process.try_wait()? {
            return Err(format!("a worker ended by itself: {status}").into());
        }
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // This fails if the worker has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
