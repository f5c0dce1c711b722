use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tower::BoxError;

use super::tape::{Position, Tape};
use crate::RepeatableBody;

/// A body that records itself while it is sent, up to a cap, so that it can be sent again.
///
/// Made by a [`ReplayLayer`](super::ReplayLayer), or by [`new`](Self::new). It is one handle of
/// several on the same stream; a retry makes the others through [`RepeatableBody`], which is why it
/// is not `Clone`. A later handle plays what was recorded, then goes on with the rest of the stream
/// where the attempt before it stopped reading.
///
/// - Data beyond the cap streams through as if there was no recording, and what was recorded is
///   dropped: the body can then not be sent again. One that says beforehand that it is longer is
///   never recorded. Trailers do not count.
/// - Nothing is recorded while there is only one handle.
/// - One handle reads at a time. As soon as a retry is decided, before its wait, the later handle
///   takes over; the earlier, if it is still alive, fails with [`ReplayError::Displaced`], for its
///   attempt is over. An upload that went on would outgrow the cap during the wait, and leave
///   nothing to send.
/// - After an error of the stream the body cannot be sent again.
///
/// The body must be `Unpin`, as those of axum and hyper are; others are in a `Box::pin`. Data comes
/// as [`Bytes`], without a copy if it was that before. Dropping a handle at any time is safe.
pub struct ReplayBody<B> {
    tape: Arc<Mutex<Tape<B>>>,
    /// Which handle this is. The first is 0.
    turn: u64,
    at: Position,
    /// It has come to its end, or to an error.
    over: bool,
}

impl<B> ReplayBody<B> {
    /// Records up to `cap` bytes of `body`.
    #[must_use]
    pub fn new(body: B, cap: usize) -> Self {
        let tape = Arc::new(Mutex::new(Tape::new(body, cap)));
        Self { tape, turn: 0, at: Position::default(), over: false }
    }

    /// Whether a copy of this body could be sent from the beginning, by what is known now.
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
        let turn = tape.next_turn();
        Some(Self { tape: self.tape.clone(), turn, at: Position::default(), over: false })
    }

    fn can_repeat(&self) -> bool {
        self.is_replayable()
    }

    fn commit(&self) -> bool {
        let admitted = lock(&self.tape).admit(self.turn);
        let fits = admitted.is_ok();
        // Without the lock: waking can run code that takes it.
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

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { tape, turn, at, over } = self.get_mut();
        if *over {
            return Poll::Ready(None);
        }
        // Exact where it says 1: this is then the only handle, and it is borrowed.
        let alone = Arc::strong_count(tape) == 1;
        let (displaced, polled) = {
            let mut tape = lock(tape);
            match tape.admit(*turn) {
                Ok(displaced) => (displaced, tape.poll_frame(at, alone, cx)),
                Err(error) => (None, Poll::Ready(Some(Err(error.into())))),
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
    /// Leaves out what was recorded: bodies hold secrets, and end up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody").field("turn", &self.turn).finish_non_exhaustive()
    }
}

/// Held while the stream is polled, never across an await.
fn lock<B>(tape: &Mutex<Tape<B>>) -> MutexGuard<'_, Tape<B>> {
    tape.lock().unwrap_or_else(|poisoned| {
        // The stream panicked, so nobody knows where it stands.
        let mut tape = poisoned.into_inner();
        tape.fail();
        tape
    })
}

/// Why a [`ReplayBody`] gave up, where it was not the stream's own error.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReplayError {
    /// A later attempt has begun to read the body.
    Displaced,
    /// The body was longer than the cap, or nothing was recorded of it.
    NotRecorded,
    /// The stream failed or panicked in an earlier attempt.
    BrokenOff,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Displaced => "the request body is being sent by a later attempt",
            Self::NotRecorded => "the request body was not recorded and cannot be sent again",
            Self::BrokenOff => "the request body broke off in an earlier attempt",
        })
    }
}

impl std::error::Error for ReplayError {}
