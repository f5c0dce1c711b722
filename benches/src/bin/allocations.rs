//! The allocations of each candidate: allocations and bytes per call, the size of its response
//! future, and the bytes that a new instance holds before its first call. Tab-separated, one line
//! per candidate.
#![allow(clippy::expect_used, reason = "a program for the developers of buttress")]

use std::hint::black_box;

use allocation_counter::{AllocationInfo, measure};
use buttress_benches::filter::Filter;
use buttress_benches::patterns;
use buttress_benches::row::Row;
use buttress_benches::subject::{Meter, call_many, check, clone_many};
use tower::Service;

/// The number of calls after which growing structures have reached their size.
const WARM_UP: u64 = 2000;
const CALLS: u64 = 1000;

struct Allocations {
    filter: Filter,
}

/// Prints a line. `future` is `None` for a row without calls.
fn print(row: Row, name: &str, each: AllocationInfo, future: Option<usize>, idle: AllocationInfo) {
    let (count, bytes) = (each.count_total as f64, each.bytes_total as f64);
    let future = future.map_or_else(|| "-".to_owned(), |size| size.to_string());
    println!(
        "{}\t{name}\t{}\t{}\t{future}\t{}",
        row.name,
        count / CALLS as f64,
        bytes / CALLS as f64,
        idle.bytes_current,
    );
}

/// Makes an instance, and returns it with the bytes that it holds.
fn made<S>(make: &impl Fn() -> S) -> (S, AllocationInfo) {
    let mut made = None;
    let idle = measure(|| made = Some(make()));
    (made.expect("made"), idle)
}

impl Meter for Allocations {
    fn single<S>(&mut self, row: Row, candidate: &'static str, make: impl Fn() -> S + 'static)
    where
        S: Service<u64, Response = u64> + 'static,
    {
        if !self.filter.wants(row, candidate) {
            return;
        }
        check(&mut make(), row, candidate);
        let (mut service, idle) = made(&make);
        call_many(&mut service, WARM_UP);
        let mut succeeded = 0;
        let each = measure(|| succeeded = call_many(&mut service, CALLS));
        row.expect(candidate, CALLS, succeeded);
        print(row, candidate, each, Some(size_of::<S::Future>()), idle);
    }

    fn cloned<S>(&mut self, row: Row, candidate: &'static str, make: impl Fn() -> S + 'static)
    where
        S: Clone + Send + 'static,
    {
        if !self.filter.wants(row, candidate) {
            return;
        }
        let (service, idle) = made(&make);
        let each = measure(|| {
            black_box(clone_many(&service, CALLS));
        });
        print(row, candidate, each, None, idle);
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    patterns::visit_all(&mut Allocations { filter: Filter::from_arguments() });
}
