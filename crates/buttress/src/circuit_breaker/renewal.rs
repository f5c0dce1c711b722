//! Renewed admission of a call that is already in progress.

use std::sync::Arc;
use std::time::Duration;

use super::admission::Call;
use super::handle::Handle;
use super::shared::Shared;
use super::state::Ticket;
use crate::machinery::own::Counted;
use crate::sync::{Mutex, lock};
use crate::vocabulary::classify::Outcome;
use crate::vocabulary::error::Error;

/// A renewed admission of a call. When the last clone of the `Arc` is dropped, the circuit gets the
/// outcome that was noted last. Counters do not change: they count the call once, with its first
/// admission.
#[derive(Debug)]
pub(crate) struct Renewal {
    shared: Arc<Shared>,
    call: Call,
    /// `None` while an attempt is in progress.
    noted: Mutex<Option<(Outcome, Option<Duration>)>>,
}

impl Renewal {
    pub(crate) fn ticket(&self) -> Ticket {
        self.call.ticket
    }

    /// Clears the noted outcome, because another attempt of the call begins.
    pub(crate) fn begin_again(&self) {
        *lock(&self.noted) = None;
    }

    /// Notes the outcome of an attempt. `hint` is used as in
    /// [`Admission::settle`](super::Admission::settle).
    pub(crate) fn note(&self, outcome: Outcome, hint: impl FnOnce() -> Option<Duration>) {
        let asked = outcome == Outcome::Failure && self.shared.state.rules.honours_hints();
        let hint = if asked { hint() } else { None };
        *lock(&self.noted) = Some((outcome, hint));
    }

    /// Runs a part of an attempt. Notes a panic as
    /// [`panicked_calls`](super::Config::panicked_calls).
    pub(crate) fn watch<T>(&self, part: impl FnOnce() -> T) -> T {
        struct Panicked<'a>(&'a Renewal);

        impl Drop for Panicked<'_> {
            #[cold]
            fn drop(&mut self) {
                let outcome = self.0.shared.state.rules.abandoned(true);
                *lock(&self.0.noted) = Some((outcome, None));
            }
        }

        let panicked = Panicked(self);
        let done = part();
        std::mem::forget(panicked);
        done
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        let noted = lock(&self.noted).take();
        let dropped = || (self.shared.state.rules.abandoned(std::thread::panicking()), None);
        let (outcome, hint) = noted.unwrap_or_else(dropped);
        self.shared.settle(self.call, outcome, hint);
    }
}

impl Handle {
    /// Returns `true` if the admission of a call is still valid: the circuit would let the call
    /// begin now, and no other probe took its place.
    pub(crate) fn holds(&self, ticket: Ticket) -> bool {
        self.shared.state.is_current(ticket)
    }

    /// Admits again a call in progress. A refusal is neither counted nor reported.
    pub(crate) fn renew(&self) -> Result<Arc<Renewal>, Error> {
        let admission = Shared::admit::<Counted>(&self.shared);
        let admission = admission.map_err(|retry_after| self.shared.error(retry_after))?;
        let Some((shared, mut call)) = admission.into_call() else {
            unreachable!("an admission is settled once")
        };
        call.time(&shared);
        Ok(Arc::new(Renewal { shared, call, noted: Mutex::new(None) }))
    }
}
