//! The rounds: in each, one of two workers is killed and replaced. Meanwhile the other one may be frozen.

use std::io::{self, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use buttress::{Clock, Rng};
use tower::BoxError;

use crate::account::{self, Mishaps};
use crate::database::Place;
use crate::worker::{Duty, Share};

/// The time between two kills, in milliseconds.
const PAUSE: (u64, u64) = (50, 150);
/// How long a frozen worker stands still, in milliseconds: longer than its leases. The other worker is killed
/// meanwhile, and takes the work of the frozen one.
const FROZEN: (u64, u64) = (250, 400);
/// One of this number of rounds freezes a worker, unless one is frozen already.
const FREEZES: u64 = 8;
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
        let hire = |share| Worker::hire(place, share, rng.next_u64());
        let mut pair = [hire(Share::Even)?, hire(Share::Odd)?];
        let mut freezes = 0;
        for _ in 0..self.kills {
            clock.sleep(Duration::from_millis(rng.between(PAUSE.0, PAUSE.1))).await;
            let [even, odd] = &mut pair;
            // A frozen worker lives on.
            let even_dies = odd.is_frozen() || !even.is_frozen() && rng.between(0, 1) == 0;
            let (victim, other) = if even_dies { (even, odd) } else { (odd, even) };
            // On a busy machine most workers would be killed before they have work. Some should be. A frozen worker
            // may hold the lock of the file, and the other one then has no work before it continues.
            if !other.is_frozen() && rng.between(0, 1) == 0 {
                victim.until_it_works()?;
            }
            if !other.is_frozen() && rng.between(1, FREEZES) == 1 {
                let length = Duration::from_millis(rng.between(FROZEN.0, FROZEN.1));
                other.freeze_until(clock.now() + length)?;
                freezes += 1;
            }
            victim.kill()?;
            *victim = hire(victim.share)?;
            // Now, so that a worker that was frozen works at least until the next round.
            other.thaw(clock.now())?;
        }
        for worker in &mut pair {
            worker.kill()?;
        }
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
        let account = account::draw_up(&database, Mishaps { kills: self.kills, freezes }).await?;
        let took = clock.now().saturating_duration_since(start);
        println!("{account}");
        println!(
            "{name}: {freezes} freezes, {:.1} s of killing, {:.1} s in all",
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
    share: Share,
    /// The end of its freeze.
    thaws_at: Option<Instant>,
}

impl Worker {
    fn hire(place: &Place, share: Share, seed: u64) -> Result<Self, BoxError> {
        let mut command = Command::new(std::env::current_exe()?);
        Duty { place: place.clone(), share, seed }.pass_to(&mut command)?;
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let (works, has_work) = mpsc::channel();
        if let Some(output) = process.stdout.take() {
            thread::spawn(move || follow(output, &works));
        }
        Ok(Self { process, has_work, share, thaws_at: None })
    }

    /// Waits until a saga runs in the worker.
    fn until_it_works(&self) -> Result<(), BoxError> {
        match self.has_work.recv_timeout(FIRST_WORK) {
            Err(RecvTimeoutError::Timeout) => Err("a worker has no saga after a minute".into()),
            // A worker that has ended is reported by the kill.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Ok(()),
        }
    }

    fn is_frozen(&self) -> bool {
        self.thaws_at.is_some()
    }

    fn freeze_until(&mut self, thaws_at: Instant) -> Result<(), BoxError> {
        self.thaws_at = Some(thaws_at);
        self.signal("-STOP")
    }

    /// Lets the worker continue if its freeze is over at `now`.
    fn thaw(&mut self, now: Instant) -> Result<(), BoxError> {
        if self.thaws_at.is_some_and(|thaws_at| now >= thaws_at) {
            self.thaws_at = None;
            self.signal("-CONT")?;
        }
        Ok(())
    }

    /// Sends a signal by its name, e.g. `-STOP`.
    fn signal(&self, name: &str) -> Result<(), BoxError> {
        let number = self.process.id().to_string();
        match Command::new("kill").args([name, &number]).status()? {
            sent if sent.success() => Ok(()),
            sent => Err(format!("kill {name} {number}: {sent}").into()),
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
