//! Timed rounds, interleaved over candidates, so that other load of the machine affects all of
//! them.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::process::waited_nanos;
use crate::row::Row;
use crate::spread::{ENOUGH, median};

/// The intended time of a round of one candidate.
const ROUND: Duration = Duration::from_millis(2);
/// The most calls of a round. A round is long enough with fewer calls.
const MOST_CALLS: u64 = 400_000;
const ROUNDS: usize = 25;
/// The factor for rounds on two threads, where the machine interferes more.
const STRETCH: u64 = 4;
const ROUNDS_OF_TWO: usize = 15;
/// The largest difference of the two threads' beginnings, as a share of the round. Beyond it the
/// round does not count, because the threads did not run concurrently.
const OFFSET: f64 = 0.03;
/// The largest share of a round in which a thread was ready without a core. A parked thread waits
/// for a core too, but for a shorter time.
const WITHOUT_A_CORE: f64 = 0.1;
/// The number of tried rounds for each that counts.
const TRIES: usize = 5;
/// The calls of the thread that is done, between two checks of the other.
const MEANWHILE: u64 = 50;

type OnOne = Box<dyn FnMut(u64) -> Duration>;
/// The times, and whether the round counts.
type OnTwo = Box<dyn FnMut(u64, &Handle) -> (Duration, bool)>;

/// One candidate without its type: makes a number of calls and returns their time.
pub struct Candidate {
    name: &'static str,
    one: OnOne,
    two: Option<OnTwo>,
}

fn timed<S>(
    row: Row,
    name: &str,
    service: &mut S,
    run: fn(&mut S, u64) -> u64,
    n: u64,
) -> Duration {
    let begin = Instant::now();
    let succeeded = run(service, black_box(n));
    let took = begin.elapsed();
    row.expect(name, n, succeeded);
    took
}

impl Candidate {
    pub fn single<S: 'static>(
        row: Row,
        name: &'static str,
        make: impl Fn() -> S,
        run: fn(&mut S, u64) -> u64,
    ) -> Self {
        let mut service = make();
        let one = Box::new(move |calls| timed(row, name, &mut service, run, calls));
        Self { name, one, two: None }
    }

    /// Measures two threads, each with a clone.
    pub fn shared<S: Clone + Send + 'static>(
        row: Row,
        name: &'static str,
        make: impl Fn() -> S,
        run: fn(&mut S, u64) -> u64,
    ) -> Self {
        let service = make();
        let two = move |calls, runtime: &Handle| {
            let (ready, done) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
            let threads = [(); 2].map(|()| {
                let (mut service, runtime) = (service.clone(), runtime.clone());
                let (ready, done) = (ready.clone(), done.clone());
                thread::spawn(move || {
                    let _entered = runtime.enter();
                    meet(&ready);
                    let (before, began) = (waited_nanos(), Instant::now());
                    let counts_as_done = Done(&done);
                    let took = timed(row, name, &mut service, run, calls);
                    let waited = waited_nanos().zip(before).map_or(0.0, |(now, then)| now - then);
                    drop(counts_as_done);
                    // The other thread must not run the rest of its calls alone.
                    while done.load(Ordering::Relaxed) < 2 {
                        run(&mut service, MEANWHILE);
                    }
                    (took, began, waited)
                })
            });
            let [one, other] = threads.map(|thread| thread.join().expect("a thread failed"));
            let took = one.0.max(other.0);
            let offset = one.1.max(other.1).duration_since(one.1.min(other.1));
            let whole = took.as_nanos() as f64;
            let together = offset.as_nanos() as f64 <= whole * OFFSET;
            (took, together && one.2.max(other.2) <= whole * WITHOUT_A_CORE)
        };
        Self { two: Some(Box::new(two)), ..Self::single(row, name, make, run) }
    }
}

/// Counts a thread as done, even when it panics: otherwise the other would continue forever.
struct Done<'a>(&'a AtomicU32);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits for the other thread without sleeping: both are on a core when they begin.
fn meet(ready: &AtomicU32) {
    ready.fetch_add(1, Ordering::Relaxed);
    while ready.load(Ordering::Relaxed) < 2 {
        std::hint::spin_loop();
    }
}

/// The nanoseconds per call of one candidate.
pub struct Timed {
    pub name: &'static str,
    pub one: f64,
    /// The times on two threads, per round; `None` for a round that does not count. Empty if too
    /// few count. Candidates of one row share their rounds.
    pub two: Vec<Option<f64>>,
}

/// The candidates of one row.
pub struct Rounds {
    runtime: Handle,
    candidates: Vec<Candidate>,
}

impl Rounds {
    pub fn new(runtime: Handle) -> Self {
        Self { runtime, candidates: Vec::new() }
    }

    pub fn add(&mut self, candidate: Candidate) {
        self.candidates.push(candidate);
    }

    /// Times the candidates, and drops them.
    pub fn run(&mut self) -> Vec<Timed> {
        let mut candidates = std::mem::take(&mut self.candidates);
        let calls: Vec<u64> = candidates.iter_mut().map(|c| calls(&mut |n| (c.one)(n))).collect();
        let mut one = vec![Vec::new(); candidates.len()];
        for _ in 0..ROUNDS {
            for (i, candidate) in candidates.iter_mut().enumerate() {
                one[i].push(per_call((candidate.one)(calls[i]), calls[i]));
            }
        }
        let two = self.run_two(&mut candidates);
        let timed = candidates.iter().zip(one).zip(two).map(|((candidate, one), two)| Timed {
            name: candidate.name,
            one: median(one).expect("rounds"),
            two,
        });
        timed.collect()
    }

    /// Runs rounds with all candidates until enough rounds of each count.
    fn run_two(&self, candidates: &mut [Candidate]) -> Vec<Vec<Option<f64>>> {
        let mut taken = vec![Vec::new(); candidates.len()];
        let mut two: Vec<_> = candidates.iter_mut().map(|c| c.two.as_mut()).collect();
        let shared: Vec<usize> = (0..two.len()).filter(|which| two[*which].is_some()).collect();
        let mut run = |which: usize, calls| Some(two[which].as_mut()?(calls, &self.runtime));
        let calls: Vec<u64> = (0..taken.len())
            .map(|which| calls_of(STRETCH, &mut |n| run(which, n).map_or(ROUND, |(took, _)| took)))
            .collect();
        let counting = |rounds: &Vec<Option<f64>>| rounds.iter().flatten().count();
        for _ in 0..ROUNDS_OF_TWO * TRIES {
            if shared.iter().all(|which| counting(&taken[*which]) >= ROUNDS_OF_TWO) {
                break;
            }
            for which in &shared {
                let took = run(*which, calls[*which]).filter(|(_, counts)| *counts);
                taken[*which].push(took.map(|(took, _)| per_call(took, calls[*which])));
            }
        }
        let few = taken.iter_mut().filter(|rounds| counting(rounds) < ENOUGH);
        few.for_each(Vec::clear);
        taken
    }
}

fn calls(run: &mut dyn FnMut(u64) -> Duration) -> u64 {
    calls_of(1, run)
}

/// Returns the calls that take the time of `stretch` rounds. The number is even, so that every
/// other call is half of them.
fn calls_of(stretch: u64, run: &mut dyn FnMut(u64) -> Duration) -> u64 {
    let wanted = ROUND.as_nanos() as u64 * stretch;
    let mut calls = 100;
    loop {
        let took = run(calls).as_nanos() as u64;
        if took * 10 >= wanted || calls >= MOST_CALLS {
            let fitting = calls * wanted / took.max(1);
            return (fitting / 2 * 2).clamp(20, MOST_CALLS * stretch);
        }
        calls *= 4;
    }
}

fn per_call(took: Duration, calls: u64) -> f64 {
    took.as_nanos() as f64 / calls as f64
}
