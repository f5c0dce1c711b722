//! backon: three attempts around calls of a clone, without a wait between them.

use std::future::{Ready, ready};
use std::time::Duration;

use backon::{ConstantBuilder, Retryable};

use crate::guarded::Shared;

/// backon retries a function, so the clone that makes the attempts is moved into one. The inner
/// services are always ready and are not polled.
pub fn retry<S: Shared>(inner: S) -> impl Shared {
    let policy = ConstantBuilder::new().with_delay(Duration::ZERO).with_max_times(2);
    let at_once: fn(Duration) -> Ready<()> = |_| ready(());
    tower::service_fn(move |request| {
        let mut inner = inner.clone();
        (move || inner.call(request)).retry(policy).sleep(at_once)
    })
}
