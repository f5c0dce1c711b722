//! The body of a request on its way to a backend, and its progress.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use buttress::Clock;
use bytes::Bytes;
use http_body::SizeHint;
use tower::BoxError;

use crate::Body;
use crate::answer::Failed;
use crate::body::{PolledFrame, SizeLimit, is_read};

/// The body that the client of a backend sends. Clones are the same body: while nothing of it was
/// read, another attempt can send it.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing(Option<Arc<Upload>>);

/// The event that the body waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Nothing was read.
    Unread,
    /// The connection waits for the client's next frame.
    OnClient,
    /// The client's last frame was handed to the connection, which has not asked for another one.
    OnBackend,
    Ended,
    /// The body is longer than the route allows.
    TooLarge,
    /// The client's stream failed.
    Broken,
}

#[derive(Debug)]
struct Upload {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    body: Body,
    phase: Phase,
    /// The time of the last frame.
    at: Instant,
    room: SizeLimit,
    /// The task that waits for the head of the answer.
    waiter: Option<Waker>,
}

impl Outgoing {
    pub(crate) fn new(body: Body, limit: Option<u64>, clock: &Clock) -> Self {
        if body.is_empty() {
            return Self(None);
        }
        let (at, room) = (clock.now(), SizeLimit::new(limit));
        let state = State { body, phase: Phase::Unread, at, room, waiter: None };
        Self(Some(Arc::new(Upload { clock: clock.clone(), state: Mutex::new(state) })))
    }

    /// Creates no body.
    pub(crate) fn empty() -> Self {
        Self(None)
    }

    /// Whether another attempt can send the body.
    pub(crate) fn is_unread(&self) -> bool {
        self.0.as_ref().is_none_or(|upload| upload.lock().phase == Phase::Unread)
    }

    /// Drops the client's stream. A connection that cannot write keeps its clone of this body, and the
    /// client would otherwise wait for as long as the connection does.
    pub(crate) fn abandon(&self) {
        let Some(upload) = &self.0 else { return };
        let dropped = {
            let mut state = upload.lock();
            if state.phase != Phase::Ended {
                state.phase = Phase::Broken;
            }
            std::mem::take(&mut state.body)
        };
        // After the lock is released: what the body holds may run any code.
        drop(dropped);
    }

    /// Whether there is no body.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.0.as_ref().map_or(Phase::Ended, |upload| upload.lock().phase())
    }

    /// Whether the client has yet to send the next part.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.phase() == Phase::OnClient
    }

    /// Whether all data was read. True without a body.
    pub(crate) fn has_ended(&self) -> bool {
        self.phase() == Phase::Ended
    }

    /// Whether a connection can read nothing more, also no trailers. True without a body.
    pub(crate) fn is_over(&self) -> bool {
        self.0.as_ref().is_none_or(|upload| upload.lock().phase == Phase::Ended)
    }

    /// Returns when the last part of the body was read, or the wait for the next one began. `None` without a body.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.0.as_ref().map(|upload| upload.lock().at)
    }

    /// Returns since when the backend has had all that the client sent: now, if the client has yet to send more or has
    /// failed. `None` without a body, and if nothing of it was read.
    pub(crate) fn received(&self) -> Option<Instant> {
        let upload = self.0.as_ref()?;
        let state = upload.lock();
        match state.phase {
            Phase::Unread => None,
            Phase::OnBackend | Phase::Ended => Some(state.at),
            Phase::OnClient | Phase::TooLarge | Phase::Broken => Some(upload.clock.now()),
        }
    }

    /// Returns which side a request that takes too long waits for.
    pub(crate) fn late(&self) -> Failed {
        match self.phase() {
            Phase::OnClient => Failed::BodyTooSlow,
            _ => Failed::HeadTimedOut,
        }
    }

    /// Returns when the attempt that began at `start` fails if nothing changes, and lets `waiter` know when
    /// that becomes earlier.
    pub(crate) fn due(
        &self,
        start: Instant,
        head: Duration,
        idle: Duration,
        waiter: &Waker,
    ) -> Option<Instant> {
        let Some(upload) = &self.0 else { return start.checked_add(head) };
        let mut state = upload.lock();
        match state.phase() {
            Phase::Ended => state.at.max(start).checked_add(head),
            _ => {
                match &mut state.waiter {
                    Some(known) => known.clone_from(waiter),
                    None => state.waiter = Some(waiter.clone()),
                }
                state.at.max(start).checked_add(idle)
            }
        }
    }
}

impl Upload {
    /// Locks the state. The lock is held while the client's stream is polled, never across an await.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            // The stream panicked, so its state is unknown.
            let mut state = PoisonError::into_inner(poisoned);
            state.phase = Phase::Broken;
            state
        })
    }
}

impl State {
    /// Returns the event that the body waits for. A body without further data has ended for the clocks and for the
    /// verdict about the backend: whether the connection reads its trailers depends on the version of HTTP.
    fn phase(&self) -> Phase {
        match self.phase {
            Phase::Unread | Phase::OnBackend if is_read(&self.body) => Phase::Ended,
            phase => phase,
        }
    }

    fn poll_frame(&mut self, clock: &Clock, cx: &mut Context<'_>) -> PolledFrame {
        match self.phase {
            Phase::Ended => return Poll::Ready(None),
            Phase::TooLarge | Phase::Broken => {
                return Poll::Ready(Some(Err("the body of the request failed before".into())));
            }
            Phase::Unread | Phase::OnClient | Phase::OnBackend => {}
        }
        let frame = match http_body::Body::poll_frame(Pin::new(&mut self.body), cx) {
            Poll::Pending => {
                if self.phase != Phase::OnClient {
                    self.phase = Phase::OnClient;
                    self.at = clock.now();
                }
                return Poll::Pending;
            }
            Poll::Ready(frame) => frame,
        };
        self.at = clock.now();
        Poll::Ready(match frame {
            None => {
                self.phase = Phase::Ended;
                None
            }
            Some(Err(error)) => {
                self.phase = Phase::Broken;
                Some(Err(error))
            }
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                if !self.room.take(length) {
                    self.phase = Phase::TooLarge;
                    return Poll::Ready(Some(Err("the body of the request is too large".into())));
                }
                let is_last = http_body::Body::is_end_stream(&self.body);
                self.phase = if is_last { Phase::Ended } else { Phase::OnBackend };
                Some(Ok(frame))
            }
        })
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        let Some(upload) = &self.0 else { return Poll::Ready(None) };
        let (polled, waiter) = {
            let mut state = upload.lock();
            let polled = state.poll_frame(&upload.clock, cx);
            let is_over = matches!(state.phase(), Phase::Ended | Phase::TooLarge | Phase::Broken);
            (polled, state.waiter.take_if(|_| is_over))
        };
        // After the lock is released: a waker can run code that takes the lock.
        if let Some(waiter) = waiter {
            waiter.wake();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let Some(upload) = &self.0 else { return true };
        let state = upload.lock();
        match state.phase {
            Phase::Ended => true,
            // The next frame is an error.
            Phase::TooLarge | Phase::Broken => false,
            Phase::Unread | Phase::OnClient | Phase::OnBackend => state.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let Some(upload) = &self.0 else { return SizeHint::with_exact(0) };
        http_body::Body::size_hint(&upload.lock().body)
    }
}
