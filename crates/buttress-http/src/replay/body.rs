use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, SizeHint};
use tower::BoxError;

use super::tape::{Position, Tape};
use crate::RepeatableBody;
use crate::frame::PolledFrame;

/// A body that records its data while it is sent, up to a cap, so that a retry can send it again.
///
/// A [`ReplayLayer`](super::ReplayLayer) makes it, or [`new`](Self::new). It is one of several
/// handles on the same stream. A retry makes the other handles through [`RepeatableBody`], so the
/// type is not `Clone`. A later handle replays the recording, then continues with the stream where
/// the earlier attempt stopped reading.
///
/// - Data beyond the cap streams through, and the handle drops the recording. The body can then not
///   be sent again. A body that announces more than the cap is never recorded. Trailers do not
///   count towards the cap.
/// - Nothing is recorded while there is only one handle.
/// - One handle reads at a time. The later handle takes over as soon as the retry decides on
///   another attempt, before its wait. The earlier handle, if it is still alive, then fails with
///   [`ReplayError::Displaced`], because its attempt is over. An upload that continued during the
///   wait could outgrow the cap and leave nothing to send.
/// - After an error of the stream the body cannot be sent again.
/// - The handle of a mirror reads only the recording, once the whole body is recorded. It takes over from no other
///   handle, and never polls the stream. Read before that, it fails with [`ReplayError::NotRecorded`].
///
/// The body must be `Unpin`, as the bodies of axum and hyper are. Put others into a `Box::pin`.
/// Data is [`Bytes`], copied only if the original data has another type. Dropping a handle at any
/// time is safe.
pub struct ReplayBody<B> {
    tape: Arc<Mutex<Tape<B>>>,
    /// The number of this handle, from 0. `None` for a handle that reads only the recording, for a mirror.
    turn: Option<u64>,
    at: Position,
    /// Whether the handle has reached the end or an error.
    over: bool,
}

impl<B> ReplayBody<B> {
    /// Records up to `cap` bytes of `body`.
    #[must_use]
    pub fn new(body: B, cap: usize) -> Self {
        let tape = Arc::new(Mutex::new(Tape::new(body, cap)));
        Self::handle(tape, Some(0))
    }

    fn handle(tape: Arc<Mutex<Tape<B>>>, turn: Option<u64>) -> Self {
        Self { tape, turn, at: Position::default(), over: false }
    }

    /// Returns whether a copy of this body could be sent from the beginning now.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        lock(&self.tape).is_replayable()
    }
}

impl<B> RepeatableBody for ReplayBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    fn try_copy(&self) -> Option<Self> {
        let mut tape = lock(&self.tape);
        if !tape.is_replayable() || !tape.fits() {
            return None;
        }
        // A copy of a mirror's handle is one too.
        let turn = self.turn.map(|_| tape.next_turn());
        Some(Self::handle(self.tape.clone(), turn))
    }

    fn try_mirror(&self) -> Option<Self> {
        let tape = lock(&self.tape);
        let is_recorded = tape.is_replayable() && tape.fits();
        is_recorded.then(|| Self::handle(self.tape.clone(), None))
    }

    fn can_repeat(&self) -> bool {
        let tape = lock(&self.tape);
        if self.turn.is_some() { tape.is_replayable() } else { tape.is_whole() }
    }

    fn commit(&self) -> bool {
        let Some(turn) = self.turn else { return self.can_repeat() };
        let admitted = lock(&self.tape).admit(turn);
        let fits = admitted.is_ok();
        // After the lock is released: a waker can run code that takes the lock.
        if let Some(waker) = admitted.ok().flatten() {
            waker.wake();
        }
        fits
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame<BoxError> {
        let Self { tape, turn, at, over } = self.get_mut();
        if *over {
            return Poll::Ready(None);
        }
        // A count of 1 is exact: this handle is then the only one, and it is borrowed.
        let alone = Arc::strong_count(tape) == 1;
        let (displaced, polled) = {
            let mut tape = lock(tape);
            match turn.map(|turn| tape.admit(turn)) {
                None => (None, Poll::Ready(tape.recorded_frame(at))),
                Some(Ok(displaced)) => (displaced, tape.poll_frame(at, alone, cx)),
                Some(Err(error)) => (None, Poll::Ready(Some(Err(error.into())))),
            }
        };
        *over = matches!(polled, Poll::Ready(None | Some(Err(_))));
        if let Some(waker) = displaced {
            waker.wake();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.over || lock(&self.tape).is_end_stream(&self.at)
    }

    fn size_hint(&self) -> SizeHint {
        if self.over {
            return SizeHint::with_exact(0);
        }
        lock(&self.tape).size_hint(&self.at)
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    /// Omits the recording: bodies hold secrets, and debug output reaches logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody").field("turn", &self.turn).finish_non_exhaustive()
    }
}

/// Locks the tape. The lock is held while the stream is polled, never across an await.
fn lock<B>(tape: &Mutex<Tape<B>>) -> MutexGuard<'_, Tape<B>> {
    tape.lock().unwrap_or_else(|poisoned| {
        // The stream panicked, so its state is unknown.
        let mut tape = poisoned.into_inner();
        tape.fail();
        tape
    })
}

/// Why a [`ReplayBody`] failed, unless the stream itself returned the error.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReplayError {
    /// A later attempt has taken over the body.
    Displaced,
    /// The body was longer than the cap, or was not recorded.
    NotRecorded,
    /// The stream failed or panicked in an earlier attempt.
    BrokenOff,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Displaced => "the request body is being sent by a later attempt",
            Self::NotRecorded => "the request body was not recorded and cannot be sent again",
            Self::BrokenOff => "the request body failed in an earlier attempt",
        })
    }
}

impl std::error::Error for ReplayError {}
