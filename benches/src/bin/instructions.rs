//! Instructions per call, counted by callgrind.
//!
//! Run without valgrind this only makes the calls. `benchmarks` runs it under callgrind, told to write
//! what it counted up to every [`measurement_mark`]: each other part is one candidate's calls. The names of the
//! candidates go to standard output in the same order.

use std::hint::black_box;

use buttress_benches::patterns;
use buttress_benches::subject::{Meter, call_many};
use tower::Service;

/// Enough to fill every window and to reach what stays.
const WARM_UP: u64 = 300;
const CALLS: u64 = 1000;

struct Instructions {
    only: Option<String>,
}

/// callgrind knows this function by its name, and begins a new part at each call of it.
#[inline(never)]
fn measurement_mark(candidate: &str) {
    black_box(candidate);
}

/// The same code warms up and is measured.
#[inline(never)]
fn run<S: Service<u64, Response = u64>>(service: &mut S, calls: u64) -> u64 {
    call_many(service, calls)
}

impl Meter for Instructions {
    fn shared<S>(&mut self, row: &'static str, candidate: &'static str, make: impl Fn() -> S)
    where
        S: Service<u64, Response = u64> + Clone + Send + 'static,
        S::Future: Send,
    {
        self.single(row, candidate, make);
    }

    fn single<S>(&mut self, row: &'static str, candidate: &'static str, make: impl Fn() -> S)
    where
        S: Service<u64, Response = u64>,
    {
        let wanted = |only: &String| candidate.contains(only) || row.contains(only);
        if !self.only.as_ref().is_none_or(wanted) {
            return;
        }
        let mut service = make();
        black_box(run(&mut service, black_box(WARM_UP)));
        measurement_mark(candidate);
        black_box(run(&mut service, black_box(CALLS)));
        measurement_mark(candidate);
        println!("{row}\t{candidate}\t{CALLS}");
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    patterns::visit_all(&mut Instructions { only: std::env::args().nth(1) });
}
