//! Timed rounds, interleaved over candidates: what else the machine does falls on all of them.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::process::waited_nanos;
use crate::row::Row;
use crate::spread::{ENOUGH, median};

/// How long a round of one candidate should take.
const ROUND: Duration = Duration::from_millis(2);
/// More would only heat the room: a round is long enough before it has so many calls.
const MOST_CALLS: u64 = 400_000;
const ROUNDS: usize = 25;
/// With two threads the machine interferes more, so the rounds are longer.
const STRETCH: u64 = 4;
const ROUNDS_OF_TWO: usize = 15;
/// A round does not count in which one thread began later than the other by more than this share of
/// it: they did not run at the same time, and so not against each other.
const APART: f64 = 0.03;
/// Nor one in which a thread was ready and had no core for so much of it. Who parks and is woken waits
/// a little too, but not so long.
const WITHOUT_A_CORE: f64 = 0.1;
/// So many are tried for each that counts.
const TRIES: usize = 5;
/// Calls of the thread that is done, between two looks at the other.
const MEANWHILE: u64 = 50;

type OnOne = Box<dyn FnMut(u64) -> Duration>;
/// And whether the round counts.
type OnTwo = Box<dyn FnMut(u64, &Handle) -> (Duration, bool)>;

/// One candidate, its type forgotten: how to make a number of calls, and how long they took.
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

    /// Two threads get a clone each.
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
                    // The other is not left alone for the rest of its calls.
                    while done.load(Ordering::Relaxed) < 2 {
                        run(&mut service, MEANWHILE);
                    }
                    (took, began, waited)
                })
            });
            let [one, other] = threads.map(|thread| thread.join().expect("a thread failed"));
            let took = one.0.max(other.0);
            let apart = one.1.max(other.1).duration_since(one.1.min(other.1));
            let whole = took.as_nanos() as f64;
            let together = apart.as_nanos() as f64 <= whole * APART;
            (took, together && one.2.max(other.2) <= whole * WITHOUT_A_CORE)
        };
        Self { two: Some(Box::new(two)), ..Self::single(row, name, make, run) }
    }
}

/// Counts a thread as done, also when it panics: the other would go on for ever.
struct Done<'a>(&'a AtomicU32);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits for the other without sleeping: both are on a core when they begin.
fn meet(ready: &AtomicU32) {
    ready.fetch_add(1, Ordering::Relaxed);
    while ready.load(Ordering::Relaxed) < 2 {
        std::hint::spin_loop();
    }
}

/// Nanoseconds per call of one candidate.
pub struct Timed {
    pub name: &'static str,
    pub one: f64,
    /// On two threads, of each round, none where it does not count; empty where too few do. Candidates
    /// of one row share their rounds.
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

    /// Times the candidates, and forgets them.
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

    /// All take part in each round until enough rounds of everybody count.
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

/// How many calls take `stretch` rounds' time. Always even, so that every other call is half of them.
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
