//! The state that all handles of one body share: the rest of the stream, and the data read from it.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tower::BoxError;

use super::body::ReplayError;
use crate::frame::PolledFrame;

/// The position of a handle in the body.
#[derive(Debug, Default)]
pub(super) struct Position {
    bytes: u64,
    trailers: bool,
}

pub(super) struct Tape<B> {
    /// `None` after the end or an error.
    rest: Option<B>,
    /// Whether the stream ended with an error or a panic.
    failed: bool,
    /// The number of bytes read from the stream.
    read: u64,
    /// A copy of those bytes. A slice of a chunk would keep the whole read buffer alive, and the
    /// cap would not bound the memory. `None` after more bytes than the cap, or once no other
    /// handle is left to replay to. Never `None` before the first byte.
    recording: Option<Vec<u8>>,
    /// The trailers, if they came during a recording.
    trailers: Option<HeaderMap>,
    cap: usize,
    /// The number of the newest handle.
    last: u64,
    /// The number of the handle that reads. Later attempts take over from earlier ones, which may
    /// still live: a connection can continue to send a request that was answered long ago.
    reading: u64,
    /// The waker of the handle that reads. It is woken when a later handle displaces it.
    waiting: Option<Waker>,
}

impl<B> Tape<B> {
    pub(super) fn new(body: B, cap: usize) -> Self {
        Self {
            rest: Some(body),
            failed: false,
            read: 0,
            recording: Some(Vec::new()),
            trailers: None,
            cap,
            last: 0,
            reading: 0,
            waiting: None,
        }
    }

    /// Whether a handle that starts from the beginning would reach the end.
    pub(super) fn is_replayable(&self) -> bool {
        self.recording.is_some() && !self.failed
    }

    /// Returns the number of a new handle.
    pub(super) fn next_turn(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Ends the stream with an error.
    pub(super) fn fail(&mut self) {
        self.failed = true;
        self.rest = None;
    }

    /// Lets the handle `turn` read, and returns the waker of the handle that it displaced. The
    /// caller wakes it after it has released the lock: a waker can run code that takes the lock.
    pub(super) fn admit(&mut self, turn: u64) -> Result<Option<Waker>, ReplayError> {
        if turn == self.reading {
            return Ok(None);
        }
        if turn < self.reading {
            return Err(ReplayError::Displaced);
        }
        if self.recording.is_none() {
            return Err(ReplayError::NotRecorded);
        }
        self.reading = turn;
        Ok(self.waiting.take())
    }

    /// Returns the recorded data after `from`.
    fn recorded(&self, from: u64) -> Option<Bytes> {
        let from = usize::try_from(from).ok()?;
        let data = self.recording.as_ref()?.get(from..)?;
        (!data.is_empty()).then(|| Bytes::copy_from_slice(data))
    }

    /// Returns the next frame that was recorded.
    fn replayed(&self, at: &mut Position) -> Option<Frame<Bytes>> {
        if let Some(data) = self.recorded(at.bytes) {
            at.bytes = self.read;
            return Some(Frame::data(data));
        }
        let trailers = self.trailers.as_ref().filter(|_| !at.trailers)?;
        at.trailers = true;
        Some(Frame::trailers(trailers.clone()))
    }

    /// Records a copy of `frame`, which the stream has just yielded.
    fn record(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.read += data.len() as u64;
            let cap = self.cap;
            self.recording = self.recording.take().filter(|kept| data.len() <= cap - kept.len());
            if let Some(kept) = &mut self.recording {
                let needed = kept.len() + data.len();
                if needed > kept.capacity() {
                    // The buffer grows as a `Vec` does, but never beyond the cap.
                    let room = kept.capacity().saturating_mul(2).clamp(needed, cap);
                    kept.reserve_exact(room - kept.len());
                }
                kept.extend_from_slice(data);
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = self.recording.as_ref().map(|_| trailers.clone());
        } else {
            // A frame of an unknown kind cannot be copied.
            self.recording = None;
        }
    }

    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waiting {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waiting = Some(cx.waker().clone()),
        }
    }
}

impl<B> Tape<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    /// Whether the cap has room for the data that the stream still announces.
    pub(super) fn fits(&self) -> bool {
        let to_come = self.rest.as_ref().map_or(0, |rest| rest.size_hint().lower());
        self.read.saturating_add(to_come) <= self.cap as u64
    }

    /// Whether the whole body is recorded.
    pub(super) fn is_whole(&self) -> bool {
        self.is_replayable() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    /// Returns the next frame for a handle that reads only the recording.
    pub(super) fn recorded_frame(
        &self,
        at: &mut Position,
    ) -> Option<Result<Frame<Bytes>, BoxError>> {
        if !self.is_whole() {
            return Some(Err(ReplayError::NotRecorded.into()));
        }
        self.replayed(at).map(Ok)
    }

    /// Polls the next frame for the handle that reads. `alone` says that no other handle is left,
    /// so nothing needs a recording.
    pub(super) fn poll_frame(
        &mut self,
        at: &mut Position,
        alone: bool,
        cx: &mut Context<'_>,
    ) -> PolledFrame<BoxError> {
        if let Some(frame) = self.replayed(at) {
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.failed {
            return Poll::Ready(Some(Err(ReplayError::BrokenOff.into())));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        match Pin::new(rest).poll_frame(cx) {
            Poll::Pending => {
                if !alone {
                    self.wait(cx);
                }
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.rest = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.fail();
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(Some(Ok(frame))) => {
                let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
                if alone {
                    self.recording = None;
                }
                if frame.is_trailers() {
                    // A connection reads nothing after them.
                    self.rest = None;
                }
                self.record(&frame);
                at.bytes = self.read;
                at.trailers |= frame.is_trailers();
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    /// Whether a handle at this position has seen everything.
    pub(super) fn is_end_stream(&self, at: &Position) -> bool {
        !self.failed
            && at.bytes == self.read
            && (at.trailers || self.trailers.is_none())
            && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    /// Returns the size that a handle has still to read.
    pub(super) fn size_hint(&self, at: &Position) -> SizeHint {
        let ahead = self.read.saturating_sub(at.bytes);
        let Some(rest) = &self.rest else { return SizeHint::with_exact(ahead) };
        let rest = rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(ahead)) {
            hint.set_upper(upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;

    use super::*;

    #[test]
    fn a_recording_never_takes_more_room_than_the_cap() {
        let mut tape = Tape::new(Empty::<Bytes>::new(), 100);
        for length in 1..=100 {
            tape.record(&Frame::data(Bytes::from_static(b"a")));
            let kept = tape.recording.as_ref().unwrap();
            assert_eq!(kept.len(), length);
            assert!(kept.capacity() <= 100, "{length} bytes in room for {}", kept.capacity());
        }
        tape.record(&Frame::data(Bytes::from_static(b"a")));
        assert_eq!(tape.recording, None);
    }
}
