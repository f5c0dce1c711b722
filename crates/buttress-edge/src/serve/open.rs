//! The requests of a connection of h2: how many are open, to end a connection that stays unused, and how many the
//! client reset.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use buttress::Clock;
use hyper::rt::Executor;
use tokio::sync::Notify;

use super::stream;
use crate::race::first;

/// How many requests a client may reset before their answer. A reset uses up one, and an answered request gives one
/// back. hyper limits resets only of requests that have not begun. A client that resets the others lets the backends
/// work for nothing.
const RESETS: u32 = 100;

/// Runs the requests of a connection of h2, and counts them.
#[derive(Clone, Debug)]
pub(super) struct Open(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    state: Mutex<State>,
    /// Notified when no request is open any more, or no reset is left.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    count: usize,
    /// When the count became zero.
    since: Instant,
    /// How many resets are left.
    resets: u32,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    Answered,
    /// The client reset the request before the answer.
    Reset,
    /// The request panicked, or its client took no part of the answer.
    Dropped,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    pub(super) fn new(clock: &Clock) -> Self {
        let state = Mutex::new(State { count: 0, since: clock.now(), resets: RESETS });
        Self(Arc::new(Shared { clock: clock.clone(), state, changed: Notify::new() }))
    }

    /// Waits until no request has been open for `limit`, from now on, or until the client has no resets left. A head
    /// that is not whole opens no request. The client has all its resets again when the wait ends.
    pub(super) async fn unused(&self, limit: Duration) {
        let shared = &*self.0;
        let start = shared.clock.now();
        loop {
            let since = {
                let mut state = shared.lock();
                if state.resets == 0 {
                    state.resets = RESETS;
                    tracing::debug!("a client of h2 reset too many requests");
                    return;
                }
                (state.count == 0).then_some(state.since.max(start))
            };
            let changed = shared.changed.notified();
            match since.map(|since| since.checked_add(limit)) {
                Some(Some(due)) if shared.clock.now() >= due => return,
                Some(Some(due)) => {
                    first(pin!(changed), pin!(shared.clock.sleep_until(due))).await;
                }
                // A limit beyond the end of time is none.
                None | Some(None) => changed.await,
            }
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Open {
    fn execute(&self, request: F) {
        self.0.lock().count += 1;
        let counted = Counted { shared: Arc::clone(&self.0), ended: Ended::Dropped };
        tokio::spawn(stream::run(request, counted, &self.0.clock));
    }
}

/// An open request. Dropping it counts its end.
pub(super) struct Counted {
    shared: Arc<Shared>,
    ended: Ended,
}

impl Counted {
    pub(super) fn end(&mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.count -= 1;
        match self.ended {
            Ended::Answered => state.resets = RESETS.min(state.resets + 1),
            Ended::Reset => state.resets = state.resets.saturating_sub(1),
            Ended::Dropped => {}
        }
        let is_unused = state.count == 0;
        if is_unused {
            state.since = self.shared.clock.now();
        }
        if is_unused || state.resets == 0 {
            drop(state);
            self.shared.changed.notify_one();
        }
    }
}
