//! Steps that follow a script, and record the calls that reach them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::Clock;
use buttress_durable::saga::{Call, Config, Executor, MemoryStore, Report, Status};
use tokio::time::Instant;
use tower::service_fn;
use tower::util::BoxCloneSyncService;

/// The behaviour of the service of a step for one call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Do {
    Answer(u32),
    Refuse,
    /// Returns an indefinite error.
    Break,
    Never,
    Panic,
}

pub(super) use Do::{Answer, Break, Never, Panic, Refuse};

#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error("refused")]
    Refused,
    #[error("broken")]
    Broken,
}

pub(super) fn refusals(error: &StepError) -> bool {
    matches!(error, StepError::Refused)
}

/// The calls that reached the services, with the time since the world was made.
#[derive(Clone, Debug)]
pub(super) struct World {
    seen: Arc<Mutex<Vec<(Duration, String)>>>,
    keys: Arc<Mutex<Vec<String>>>,
    start: Instant,
}

pub(super) type StepService<R, T> = BoxCloneSyncService<Call<R>, T, StepError>;

impl World {
    #[expect(clippy::disallowed_methods, reason = "the paused clock")]
    pub(super) fn new() -> Self {
        Self { seen: Arc::default(), keys: Arc::default(), start: Instant::now() }
    }

    /// Makes a service that logs `name` and handles its n-th call as `plan` says. The last entry
    /// applies to all further calls. An answer takes `takes`.
    pub(super) fn service<R: Send + 'static>(
        &self,
        name: &'static str,
        plan: &'static [Do],
        takes: Duration,
    ) -> StepService<R, u32> {
        let world = self.clone();
        let calls = Arc::new(Mutex::new(0));
        let service = service_fn(move |call: Call<R>| {
            world.note(name);
            world.keys.lock().unwrap().push(call.key().to_string());
            let number: usize = *calls.lock().unwrap();
            *calls.lock().unwrap() += 1;
            let what = plan[number.min(plan.len() - 1)];
            async move {
                Clock::default().sleep(takes).await;
                match what {
                    Answer(value) => Ok(value),
                    Refuse => Err(StepError::Refused),
                    Break => Err(StepError::Broken),
                    Never => std::future::pending().await,
                    Panic => panic!("a step"),
                }
            }
        });
        BoxCloneSyncService::new(service)
    }

    pub(super) fn note(&self, what: impl Into<String>) {
        #[expect(clippy::disallowed_methods, reason = "the paused clock")]
        let at = self.start.elapsed();
        self.seen.lock().unwrap().push((at, what.into()));
    }

    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(_, what)| what.clone()).collect()
    }

    /// Returns the calls with their times in milliseconds.
    pub(super) fn times(&self) -> Vec<(u128, String)> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(at, what)| (at.as_millis(), what.clone())).collect()
    }

    /// Returns the keys of all calls with the log entry `name`.
    pub(super) fn keys(&self, name: &str) -> Vec<String> {
        let seen = self.seen();
        let keys = self.keys.lock().unwrap();
        let calls = seen.iter().filter(|what| !what.contains(' ') || what.starts_with("undo"));
        calls
            .zip(keys.iter())
            .filter(|(what, _)| *what == name)
            .map(|(_, key)| key.clone())
            .collect()
    }
}

/// A saga of compensatable steps in sequence, each with the behaviour of its action; undos succeed.
pub(super) fn sequence(
    world: &World,
    steps: &[(&'static str, &'static [Do])],
) -> buttress_durable::saga::Builder<u32> {
    let mut saga = buttress_durable::saga::Definition::builder("test", 1);
    for (name, plan) in steps {
        let undo: &'static str = Box::leak(format!("undo {name}").into_boxed_str());
        saga.step(*name)
            .timeout(Duration::from_secs(1))
            .action((), world.service(name, plan, Duration::ZERO), |input: &u32, ()| *input)
            .definite(refusals)
            .undo((), world.service(undo, &[Answer(0)], Duration::ZERO), |_, (), output| output)
            .add();
    }
    saga
}

pub(super) type InMemory = Executor<u32, buttress::InMemory, MemoryStore>;

/// An executor without jitter in its waits: 100, 200, 400 ms ...
/// Adds a last step, which refuses.
pub(super) fn refused_at(
    saga: &mut buttress_durable::saga::Builder<u32>,
    world: &World,
    name: &'static str,
) {
    saga.step(name)
        .action((), world.service(name, &[Refuse], Duration::ZERO), |input: &u32, ()| *input)
        .definite(refusals)
        .add();
}

pub(super) fn config() -> Config {
    let backoff = buttress::retry::Backoff::exponential(Duration::from_millis(100))
        .jitter(buttress::retry::Jitter::None);
    Config::new().undo_retry(3, backoff).run_again(3, backoff).lease(Duration::from_secs(10))
}

pub(super) fn executor(saga: buttress_durable::saga::Builder<u32>) -> InMemory {
    Executor::in_memory(saga.build().unwrap(), config()).unwrap()
}

pub(super) async fn run(saga: buttress_durable::saga::Builder<u32>) -> Report {
    executor(saga).run_to_end(7).await.unwrap()
}

pub(super) fn assert_ended(report: &Report, status: Status, reason: Option<&str>) {
    assert_eq!((report.status(), report.reason()), (status, reason), "{report:?}");
}
