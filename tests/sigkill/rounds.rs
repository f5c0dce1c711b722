//! The rounds: in each, one of two workers is killed and replaced.

use std::io::{self, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use buttress::{Clock, Rng};
use tower::BoxError;

use crate::account;
use crate::database::Place;
use crate::worker::{Duty, Share};

/// The time between two kills, in milliseconds.
const PAUSE: (u64, u64) = (50, 150);
/// The time limit of a worker until a saga runs in it.
const FIRST_WORK: Duration = Duration::from_secs(60);
/// The time limit of the last worker for the remaining work.
const LAST_WORK: Duration = Duration::from_secs(180);

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
            let (victim, share) = match rng.between(0, 1) {
                0 => (&mut pair.0, Share::Even),
                _ => (&mut pair.1, Share::Odd),
            };
            // On a busy machine most workers would be killed before they have work. Some should be.
            if rng.between(0, 1) == 0 {
                victim.until_it_works()?;
            }
            victim.kill()?;
            *victim = hire(share)?;
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
    /// Receives a message when a saga runs in the worker.
    has_work: Receiver<()>,
}

impl Worker {
    fn hire(duty: &Duty) -> Result<Self, BoxError> {
        let mut command = Command::new(std::env::current_exe()?);
        duty.pass_to(&mut command)?;
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let (works, has_work) = mpsc::channel();
        if let Some(output) = process.stdout.take() {
            thread::spawn(move || follow(output, &works));
        }
        Ok(Self { process, has_work })
    }

    /// Waits until a saga runs in the worker.
    fn until_it_works(&self) -> Result<(), BoxError> {
        match self.has_work.recv_timeout(FIRST_WORK) {
            Err(RecvTimeoutError::Timeout) => Err("a worker has no saga after a minute".into()),
            // A worker that has ended is reported by the kill.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Ok(()),
        }
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

/// Reads the output of a worker, which is one line when a saga runs in it.
fn follow(mut output: ChildStdout, works: &mpsc::Sender<()>) {
    if output.read_exact(&mut [0]).is_ok() {
        // The worker may have been killed before.
        let _ = works.send(());
        let _ = io::copy(&mut output, &mut io::sink());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // This fails if the worker has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
