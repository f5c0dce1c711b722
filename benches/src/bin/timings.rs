//! Nanoseconds per call: on one thread, and on two that share one instance by clones. The rounds of
//! a row's candidates are interleaved. Prints the median for one thread, and every round for two.
//! Tab-separated.
#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a program for the developers of buttress: it reads time"
)]

use buttress_benches::filter::Filter;
use buttress_benches::patterns;
use buttress_benches::report::figures::field;
use buttress_benches::rounds::{Candidate, Rounds, Timed};
use buttress_benches::row::Row;
use buttress_benches::subject::{Meter, check, run, run_clones};
use tokio::runtime::Handle;
use tower::Service;

/// Collects the candidates of a row, and measures them together when the next row begins.
struct Timings {
    filter: Filter,
    row: Option<Row>,
    rounds: Rounds,
}

impl Timings {
    fn add(&mut self, row: Row, candidate: Candidate) {
        if self.row.is_some_and(|last| last.name != row.name) {
            self.finish();
        }
        self.row = Some(row);
        self.rounds.add(candidate);
    }

    fn finish(&mut self) {
        let Some(row) = self.row.take() else { return };
        for Timed { name, one, two } in self.rounds.run() {
            let two: Vec<String> = two.into_iter().map(field).collect();
            println!("{}\t{name}\t{one:.1}\t{}", row.name, two.join(","));
        }
    }
}

impl Meter for Timings {
    fn shared<S>(&mut self, row: Row, candidate: &'static str, make: impl Fn() -> S + 'static)
    where
        S: Service<u64, Response = u64> + Clone + Send + 'static,
        S::Future: Send,
    {
        if self.filter.wants(row, candidate) {
            check(&mut make(), row, candidate);
            self.add(row, Candidate::shared(row, candidate, make, run));
        }
    }

    fn single<S>(&mut self, row: Row, candidate: &'static str, make: impl Fn() -> S + 'static)
    where
        S: Service<u64, Response = u64> + 'static,
    {
        if self.filter.wants(row, candidate) {
            check(&mut make(), row, candidate);
            self.add(row, Candidate::single(row, candidate, make, run));
        }
    }

    fn cloned<S>(&mut self, row: Row, candidate: &'static str, make: impl Fn() -> S + 'static)
    where
        S: Clone + Send + 'static,
    {
        if self.filter.wants(row, candidate) {
            self.add(row, Candidate::shared(row, candidate, make, |s: &mut S, n| run_clones(s, n)));
        }
    }
}

fn main() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let rounds = Rounds::new(Handle::current());
    let mut timings = Timings { filter: Filter::from_arguments(), row: None, rounds };
    patterns::visit_all(&mut timings);
    timings.finish();
}
