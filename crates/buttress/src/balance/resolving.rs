//! The task that asks a resolver.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use tower::BoxError;

use super::endpoints::Endpoints;
use super::history::nanos;
use super::shared::{Core, Counter, Resolved};
use super::state::jittered;
use crate::discover::{Instance, Resolve};
use crate::machinery::caught::{catching, caught, discard};
use crate::machinery::wakers::{Owner, WakerSet};
use crate::sync::lock;
use crate::vocabulary::clock::Sleep;
use crate::vocabulary::store_error::StoreError;

/// The first and the longest wait after a failure.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Replaces the set by each set that `resolve` finds, until the balancer is dropped.
pub(super) async fn run<S, V, E>(
    core: Weak<Core<S>>,
    set: Endpoints<S>,
    mut resolve: V,
    make: impl Fn(&Instance) -> Result<S, E> + Send + 'static,
) where
    S: Clone + Send + 'static,
    V: Resolve + 'static,
    E: Into<BoxError>,
{
    let closed = match core.upgrade() {
        Some(core) => {
            core.resolver(|_, _| {});
            core.closed.clone()
        }
        None => return,
    };
    while let Some(next) = while_open(&core, &closed, resolve.next()).await {
        // The stacks are made while no reference of this task keeps the balancer.
        let filled = next.unwrap_or_else(|| Err(StoreError::transient("the resolver panicked")));
        let filled = filled.and_then(|instances| fill(&set, &instances, &make));
        let Some(core_now) = core.upgrade() else { return };
        let wait = match filled {
            Ok(left_out) => {
                for error in &left_out {
                    core_now.shared.counters.add(Counter::ResolveFailed);
                    core_now.shared.common.left_out(error);
                }
                let left_out = left_out.len();
                core_now.resolver(|resolved, since| {
                    *resolved = Resolved { since, known: true, failures: 0, left_out };
                });
                if core_now.pool.read(|state| state.members.is_empty()) {
                    // Calls that wait for the first set need not wait any longer. An empty set is not a change of one.
                    core_now.pool.published.wake();
                }
                continue;
            }
            Err(error) => core_now.resolve_failed(&error),
        };
        drop(core_now);
        if while_open(&core, &closed, wait).await.is_none() {
            return;
        }
    }
}

/// Makes the stacks of `instances`. Returns the errors of the instances that are left out.
fn fill<S, E>(
    set: &Endpoints<S>,
    instances: &[Instance],
    make: &impl Fn(&Instance) -> Result<S, E>,
) -> Result<Vec<StoreError>, StoreError>
where
    S: Clone,
    E: Into<BoxError>,
{
    let filled = set.fill(instances, |instance| match caught(|| make(instance)) {
        Some(made) => made.map_err(Into::into),
        None => Err(BoxError::from("the function that makes it panicked")),
    });
    let count = filled.left_out.len();
    let errors = filled.left_out.into_iter().map(|(instance, error)| {
        let (id, address) = (instance.id(), instance.address());
        StoreError::invalid(format!(
            "cannot make the service of instance {id} at {address}: {error}"
        ))
    });
    let mut errors: Vec<StoreError> = errors.collect();
    match errors.pop() {
        Some(error) if !filled.replaced => {
            Err(error.context(format_args!("none of {count} instances is usable")))
        }
        last => {
            errors.extend(last);
            Ok(errors)
        }
    }
}

impl<S> Core<S> {
    /// Changes the record of the resolver. Returns its failures in a row.
    fn resolver(&self, f: impl FnOnce(&mut Resolved, Instant)) -> u32 {
        let now = self.shared.common.clock.now();
        let mut resolved = lock(&self.shared.resolved);
        let start = Resolved { since: now, known: false, failures: 0, left_out: 0 };
        let resolved = resolved.get_or_insert(start);
        f(resolved, now);
        resolved.failures
    }

    /// Reports a failure. Returns the wait until the resolver is asked again.
    fn resolve_failed(&self, error: &StoreError) -> Sleep {
        let shared = &self.shared;
        shared.counters.add(Counter::ResolveFailed);
        let failures = self.resolver(|resolved, _| {
            resolved.failures = resolved.failures.saturating_add(1);
        });
        shared.common.resolve_failed(error, failures == 1);
        let wait = FIRST.saturating_mul(1 << (failures - 1).min(5)).min(LONGEST);
        let wait = Duration::from_nanos(jittered(nanos(wait), shared.jitter()));
        shared.common.clock.sleep(wait)
    }
}

/// Runs `future` until the balancer is dropped. Returns `None` then, and `Some(None)` if the future panics.
async fn while_open<S, F: Future>(
    core: &Weak<Core<S>>,
    closed: &Arc<WakerSet>,
    future: F,
) -> Option<Option<F::Output>> {
    let mut owner = Owner::default();
    let mut ended = pin!(catching(future, |_| Poll::Pending));
    let output = poll_fn(|cx| {
        // Registered before it looks: a balancer that is dropped after the look wakes the task.
        closed.register(&mut owner, cx);
        if core.strong_count() == 0 {
            return Poll::Ready(None);
        }
        ended.as_mut().poll(cx)
    })
    .await;
    closed.forget(&mut owner);
    output.map(|output| output.map_err(discard).ok())
}
