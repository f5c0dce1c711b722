//! Instructions per call, counted by callgrind.
//!
//! Without valgrind the program only makes the calls. `benchmarks` runs it under callgrind, which
//! writes its counts at every [`measurement_mark`]: each second part has the calls of one
//! candidate. The program prints the names of the candidates in the same order.
#![allow(clippy::expect_used, reason = "a program for the developers of buttress")]

use std::hint::black_box;

use buttress_benches::filter::Filter;
use buttress_benches::patterns;
use buttress_benches::row::Row;
use buttress_benches::subject::{Meter, check, run, run_clones};
use tower::Service;

/// The calls that fill every window and reach the steady state.
const WARM_UP: u64 = 300;
const CALLS: u64 = 1000;

struct Instructions {
    filter: Filter,
}

/// callgrind recognizes this function by its name, and begins a new part at each call.
#[inline(never)]
fn measurement_mark(candidate: &str) {
    black_box(candidate);
}

fn measure(row: Row, candidate: &str, mut run: impl FnMut(u64) -> u64) {
    black_box(run(black_box(WARM_UP)));
    measurement_mark(candidate);
    let succeeded = run(black_box(CALLS));
    measurement_mark(candidate);
    row.expect(candidate, CALLS, succeeded);
    println!("{}\t{candidate}\t{CALLS}", row.name);
}

impl Meter for Instructions {
    fn single<S>(&mut self, row: Row, candidate: &'static str, make: impl Fn() -> S + 'static)
    where
        S: Service<u64, Response = u64> + 'static,
    {
        if self.filter.wants(row, candidate) {
            check(&mut make(), row, candidate);
            let mut service = make();
            measure(row, candidate, |calls| run(&mut service, calls));
        }
    }

    fn cloned<S>(&mut self, row: Row, candidate: &'static str, make: impl Fn() -> S + 'static)
    where
        S: Clone + Send + 'static,
    {
        if self.filter.wants(row, candidate) {
            let service = make();
            measure(row, candidate, |clones| run_clones(&service, clones));
        }
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    patterns::visit_all(&mut Instructions { filter: Filter::from_arguments() });
}
