//! The smallest program around a service: a runtime, and one call.

use std::hint::black_box;

use tower::{Service, ServiceExt};

/// Makes one call on a runtime of one thread.
pub fn run<S: Service<u64, Response = u64>>(make: impl FnOnce() -> S) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let answer = runtime.expect("a runtime").block_on(async { make().oneshot(black_box(7)).await });
    println!("{:?}", answer.ok());
}
