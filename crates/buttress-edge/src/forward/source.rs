//! The body of a request, for as many attempts as can send it.

use std::sync::{Arc, Mutex, PoisonError};

use buttress_http::{RepeatableBody, ReplayBody};
use http_body_util::Either;

use super::outgoing::Outgoing;

/// The body of a request, from which each attempt takes its own.
#[derive(Debug)]
pub(crate) struct Source {
    /// The stream of the client.
    progress: Outgoing,
    /// The recording of the stream. `None` if only an unread body can be sent again.
    tape: Option<Arc<ReplayBody<Outgoing>>>,
    /// The body that a decided attempt sends.
    reserved: Mutex<Option<ReplayBody<Outgoing>>>,
}

impl Source {
    fn new(progress: Outgoing, tape: Option<Arc<ReplayBody<Outgoing>>>) -> Self {
        Self { progress, tape, reserved: Mutex::new(None) }
    }

    /// Creates a body that attempts can send until one of them reads it.
    pub(crate) fn once(progress: Outgoing) -> Self {
        Self::new(progress, None)
    }

    /// Creates a body that attempts can send while it is not longer than `cap` bytes.
    pub(crate) fn recorded(progress: Outgoing, cap: usize) -> Self {
        if progress.is_empty() {
            return Self::once(progress);
        }
        let tape = ReplayBody::new(progress.clone(), cap);
        // A body that announces more is not recorded at all.
        let Some(first) = tape.try_copy() else { return Self::once(progress) };
        let source = Self::new(progress, Some(Arc::new(tape)));
        source.keep(first);
        source
    }

    pub(crate) fn progress(&self) -> &Outgoing {
        &self.progress
    }

    /// Returns the body of the next attempt. `None` if it was longer than the recording.
    pub(crate) fn take(&self) -> Option<Sent> {
        let Some(tape) = &self.tape else { return Some(Sent::Left(self.progress.clone())) };
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        reserved.take().or_else(|| copy(tape)).map(Sent::Right)
    }

    /// Whether another attempt could send the whole body.
    pub(crate) fn can_repeat(&self) -> bool {
        match &self.tape {
            None => self.progress.is_unread(),
            Some(tape) => tape.is_replayable(),
        }
    }

    /// Reserves the body for the next attempt: an earlier one cannot read on. Returns `false` if the body cannot be
    /// sent again.
    pub(crate) fn reserve(&self) -> bool {
        let Some(tape) = &self.tape else { return self.progress.is_unread() };
        let next = copy(tape).filter(RepeatableBody::commit);
        let is_there = next.is_some();
        if let Some(next) = next {
            self.keep(next);
        }
        is_there
    }

    fn keep(&self, body: ReplayBody<Outgoing>) {
        *self.reserved.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }
}

/// Returns a body that begins again.
fn copy(tape: &Arc<ReplayBody<Outgoing>>) -> Option<ReplayBody<Outgoing>> {
    // The `Arc` has a `try_copy` too.
    ReplayBody::try_copy(tape)
}

/// The body of one attempt: the stream of the client, or its recording.
pub(crate) type Sent = Either<Outgoing, ReplayBody<Outgoing>>;
