//! The writes of two threads that share each candidate, for a trace by lackey.
//!
//! Without valgrind the program only makes the calls. `benchmarks` runs it under lackey and reads
//! the trace: see `report/lackey`. The program prints its two marks, the files in its memory, and
//! the candidates in their order.
#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a program for the developers of buttress"
)]

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use buttress_benches::filter::Filter;
use buttress_benches::patterns;
use buttress_benches::row::Row;
use buttress_benches::subject::{Meter, call_once, clone_many};
use tokio::runtime::Handle;
use tower::Service;

/// The calls before the traced calls. They fill every window, and make the structures that a thread
/// makes once.
const WARM_UP: u64 = 120;
const CALLS: u64 = 20;
/// A pause before the traced calls. The main thread blocks meanwhile. On a busy machine it may take
/// longer. Its writes are then in the trace of some calls, and the median leaves them out.
const SETTLE: Duration = Duration::from_millis(20);

/// A value with its own pair of cache lines, at any address that the allocator chooses.
#[repr(align(128))]
struct Alone<T>(T);

/// Written at the beginning and the end of a thread's calls.
static MARK: Alone<AtomicU64> = Alone(AtomicU64::new(0));
/// Written at the end of each call.
static NEXT: Alone<AtomicU64> = Alone(AtomicU64::new(0));

#[inline(never)]
fn mark(which: &Alone<AtomicU64>) {
    which.0.store(1, Ordering::Relaxed);
}

#[inline(never)]
fn run<S: Service<u64, Response = u64>>(service: &mut S, request: u64) -> u64 {
    u64::from(call_once(service, request))
}

#[inline(never)]
fn run_clones<S: Clone>(service: &mut S, _: u64) -> u64 {
    clone_many(service, 1)
}

/// Makes `calls` calls, with a mark after each.
fn many<S>(service: &mut S, run: fn(&mut S, u64) -> u64, calls: u64) -> u64 {
    let mut succeeded = 0;
    for request in 0..calls {
        succeeded += run(service, request);
        mark(&NEXT);
    }
    succeeded
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that runs one job after the other. The same two threads serve every candidate.
struct Worker(Sender<Job>);

impl Worker {
    fn new(runtime: Handle) -> Self {
        let (send, jobs) = channel::<Job>();
        drop(thread::spawn(move || {
            let _entered = runtime.enter();
            jobs.into_iter().for_each(|job| job());
        }));
        Self(send)
    }

    /// Waits until the thread has finished the job.
    fn wait<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, wait) = channel();
        let job: Job = Box::new(move || drop(done.send(job())));
        self.0.send(job).expect("the worker runs");
        wait.recv().expect("the job ends")
    }
}

struct Contention {
    filter: Filter,
    workers: [Worker; 2],
}

impl Contention {
    /// Each thread has a clone that it made itself, from the clone that it was given.
    fn measure<S: Clone + Send + 'static>(
        &self,
        row: Row,
        candidate: &str,
        make: impl Fn() -> S,
        run: fn(&mut S, u64) -> u64,
    ) {
        if !self.filter.wants(row, candidate) {
            return;
        }
        let service = make();
        let own = self.workers.each_ref().map(|worker| {
            let given = service.clone();
            worker.wait(move || {
                let mut own = Box::new(Alone(given.clone()));
                let succeeded = many(&mut own.0, run, WARM_UP);
                (given, own, succeeded)
            })
        });
        let mut kept = Vec::new();
        for (worker, (given, mut own, warm)) in self.workers.iter().zip(own) {
            row.expect(candidate, WARM_UP, warm);
            let (own, succeeded) = worker.wait(move || {
                thread::sleep(SETTLE);
                mark(&MARK);
                let succeeded = many(&mut own.0, run, CALLS);
                mark(&MARK);
                (own, succeeded)
            });
            row.expect(candidate, CALLS, succeeded);
            kept.push((given, own));
        }
        println!("{}\t{candidate}\t{CALLS}", row.name);
    }
}

impl Meter for Contention {
    /// Returns a length at which no slot of a window ends during a measurement, so that both threads write one slot.
    fn window(&self) -> Duration {
        Duration::from_secs(24 * 60 * 60)
    }

    fn shared<S>(&mut self, row: Row, candidate: &'static str, make: impl Fn() -> S + 'static)
    where
        S: Service<u64, Response = u64> + Clone + Send + 'static,
        S::Future: Send,
    {
        self.measure(row, candidate, make, run);
    }

    /// A candidate that is not `Clone` is not shared.
    fn single<S>(&mut self, _: Row, _: &'static str, _: impl Fn() -> S + 'static)
    where
        S: Service<u64, Response = u64> + 'static,
    {
    }

    fn cloned<S>(&mut self, row: Row, candidate: &'static str, make: impl Fn() -> S + 'static)
    where
        S: Clone + Send + 'static,
    {
        self.measure(row, candidate, make, run_clones);
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    println!("mark\t{:x}", std::ptr::from_ref(&MARK).addr());
    println!("next\t{:x}", std::ptr::from_ref(&NEXT).addr());
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux lists its mappings");
    maps.lines().for_each(|line| println!("map\t{line}"));
    std::io::stdout().flush().expect("the output is open");
    let workers = [(); 2].map(|()| Worker::new(runtime.handle().clone()));
    patterns::visit_all(&mut Contention { filter: Filter::from_arguments(), workers });
}
