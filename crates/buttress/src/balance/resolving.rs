//! The task that asks a resolver.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::endpoints::Endpoints;
use super::history::nanos;
use super::shared::{Core, Counter, Resolved};
use super::state::jittered;
use crate::discover::{Instance, Resolve};
use crate::machinery::wakers::{Owner, WakerSet};
use crate::sync::lock;

/// The first and the longest wait after a failure.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Replaces the set by each set that `resolve` finds, until the balancer is dropped.
pub(super) async fn run<S, V>(
    core: Weak<Core<S>>,
    set: Endpoints<S>,
    mut resolve: V,
    make: impl Fn(&Instance) -> S + Send + 'static,
) where
    S: Clone + Send + 'static,
    V: Resolve + 'static,
{
    let closed = match core.upgrade() {
        Some(core) => {
            core.resolver(|_, _| {});
            core.closed.clone()
        }
        None => return,
    };
    while let Some(next) = while_open(&core, &closed, resolve.next()).await {
        let wait = match next {
            Ok(instances) => {
                set.replace(&instances, &make);
                let Some(core) = core.upgrade() else { return };
                core.resolver(|resolved, since| {
                    *resolved = Resolved { since, known: true, failures: 0 }
                });
                continue;
            }
            Err(error) => {
                let Some(core) = core.upgrade() else { return };
                core.shared.counters.add(Counter::ResolveFailed);
                let failures = core.resolver(|resolved, _| {
                    resolved.failures = resolved.failures.saturating_add(1);
                });
                core.shared.common.resolve_failed(&error, failures == 1);
                let wait = FIRST.saturating_mul(1 << (failures - 1).min(5)).min(LONGEST);
                let wait = Duration::from_nanos(jittered(nanos(wait), core.shared.jitter()));
                core.shared.common.clock.sleep(wait)
            }
        };
        if while_open(&core, &closed, wait).await.is_none() {
            return;
        }
    }
}

impl<S> Core<S> {
    /// Changes the record of the resolver. Returns its failures in a row.
    fn resolver(&self, f: impl FnOnce(&mut Resolved, Instant)) -> u32 {
        let now = self.shared.common.clock.now();
        let mut resolved = lock(&self.shared.resolved);
        let start = Resolved { since: now, known: false, failures: 0 };
        let resolved = resolved.get_or_insert(start);
        f(resolved, now);
        resolved.failures
    }
}

/// Runs `future` until the balancer is dropped. Returns `None` then.
async fn while_open<S, F: Future>(
    core: &Weak<Core<S>>,
    closed: &Arc<WakerSet>,
    future: F,
) -> Option<F::Output> {
    let (mut future, mut owner) = (pin!(future), Owner::default());
    let output = poll_fn(|cx| {
        // Registered before it looks: a balancer that is dropped after the look wakes the task.
        closed.register(&mut owner, cx);
        if core.strong_count() == 0 {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await;
    closed.forget(&mut owner);
    output
}
