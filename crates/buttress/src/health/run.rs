//! The tasks that run the checks: one that starts a task per check, and the task of a check.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;

use super::check::Looking;
use super::finding::Finding;
use super::shared::{Look, Shared};
use crate::machinery::caught::caught;
use crate::vocabulary::clock::Clock;

/// Starts a task for every check, also for checks that are added later, until `stop` closes.
pub(super) async fn supervise(shared: Arc<Shared>, stop: watch::Receiver<()>) {
    let mut ended = pin!(closed(stop.clone()));
    // Subscribed before the first look, so that a check that is added in between is seen.
    let mut added = shared.subscribe();
    let mut begun = 0;
    loop {
        for look in shared.looks_from(begun) {
            let (index, stop) = (begun, stop.clone());
            shared.spawner().spawn(keep_checking(shared.clone(), index, look, stop));
            begun += 1;
        }
        if unless(ended.as_mut(), added.changed()).await.is_none() {
            return;
        }
    }
}

/// Runs one check whenever it is due, until `stop` closes.
async fn keep_checking(shared: Arc<Shared>, index: usize, look: Look, stop: watch::Receiver<()>) {
    let mut ended = pin!(closed(stop));
    loop {
        let waited = match shared.begin(index) {
            Ok(run) => {
                let found =
                    unless(ended.as_mut(), find(&look, shared.clock(), shared.limit())).await;
                // Without a finding the checks end, and dropping the run abandons it.
                found.map(|finding| run.end(finding))
            }
            Err(due) => unless(ended.as_mut(), shared.clock().sleep_until(due)).await,
        };
        if waited.is_none() {
            return;
        }
    }
}

/// Runs a check once. Returns `None` if it does not end within the limit. A result that is ready at
/// the limit counts.
async fn find(look: &Look, clock: &Clock, limit: Duration) -> Option<Finding> {
    let mut sleep = pin!(clock.sleep(limit));
    let mut looking = match caught(|| look()) {
        Some(looking) => UserFuture(Some(looking)),
        None => return Some(panicked()),
    };
    poll_fn(|cx| match looking.poll(cx) {
        Poll::Ready(finding) => Poll::Ready(Some(finding)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await
}

fn panicked() -> Finding {
    Finding::down("panicked")
}

/// The future of a check. A panic ends it, also one that happens when it is dropped.
struct UserFuture(Option<Looking>);

impl UserFuture {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Finding> {
        let Some(looking) = &mut self.0 else { return Poll::Ready(panicked()) };
        caught(|| looking.as_mut().poll(cx)).unwrap_or_else(|| Poll::Ready(panicked()))
    }
}

impl Drop for UserFuture {
    fn drop(&mut self) {
        let looking = self.0.take();
        caught(|| drop(looking));
    }
}

/// Completes when the sender is dropped.
async fn closed(mut stop: watch::Receiver<()>) {
    while stop.changed().await.is_ok() {}
}

/// Waits for `work`, unless `ended` is ready first.
async fn unless<T>(
    mut ended: Pin<&mut impl Future<Output = ()>>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| match ended.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => work.as_mut().poll(cx).map(Some),
    })
    .await
}
