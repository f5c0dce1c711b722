//! Digests of bodies, taken while they stream.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Buf;
use http::Response;
use http_body::{Body, SizeHint};
use pin_project_lite::pin_project;
use sha2::{Digest, Sha256};

use crate::frame::PolledFrame;
use crate::layered::layered;
use crate::mapped::{MapResponse, Mapped, MappedFuture};

/// A layer that takes a digest of response bodies while they stream. Put it around both services of a shadow.
///
/// The digest is SHA-256 of the data, whatever the frames. Only responses of mirrored requests have one: the comparison
/// asks for it before the caller gets the response. Then each frame of the primary's body is hashed on the task that
/// reads it, which takes time in proportion to its length. No data is copied. The body of every other response passes
/// unread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestBodyLayer;

/// A service whose response bodies have digests. [`DigestBodyLayer`] makes it.
pub type DigestBodyService<S> = Mapped<S, TakeDigest>;

/// The response of a [`DigestBodyService`]. Dropping it cancels the call.
pub type DigestBodyFuture<F> = MappedFuture<F, TakeDigest>;

/// The change of a response: its body has a digest.
#[derive(Clone, Copy, Debug)]
pub struct TakeDigest;

layered!(DigestBodyLayer => DigestBodyService, |_layer, inner| Mapped::new(inner, TakeDigest));

impl<B: Body> MapResponse<Response<B>> for TakeDigest {
    type Response = Response<DigestBody<B>>;

    fn map(&self, response: Response<B>) -> Self::Response {
        let result = Shared::default();
        let (mut parts, body) = response.into_parts();
        parts.extensions.insert(result.clone());
        Response::from_parts(parts, DigestBody::new(body, result))
    }
}

pin_project! {
    /// A body whose digest is taken while it streams.
    pub struct DigestBody<B>
    where
        B: Body,
    {
        #[pin]
        inner: B,
        taking: Taking,
    }

    impl<B: Body> PinnedDrop for DigestBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // A connection reads nothing after the announced length, and the end of a stream can come later.
            let whole = this.inner.is_end_stream() || this.inner.size_hint().exact() == Some(0);
            this.taking.end(whole);
        }
    }
}

/// A digest in progress.
struct Taking {
    state: State,
    result: Shared,
}

enum State {
    /// No frame was read.
    New,
    Taken(Sha256),
    /// There is no digest: no comparison asked for it before the first frame.
    Unwanted,
    Ended,
}

impl Taking {
    /// Decides at the first frame, or at an end without one, whether the digest is taken.
    fn begin(&mut self) {
        if matches!(self.state, State::New) {
            let wanted = self.result.is_wanted();
            self.state = if wanted { State::Taken(Sha256::new()) } else { State::Unwanted };
        }
    }

    fn update(&mut self, data: &(impl Buf + Clone)) {
        self.begin();
        let State::Taken(digest) = &mut self.state else { return };
        let mut data = data.clone();
        while data.has_remaining() {
            digest.update(data.chunk());
            data.advance(data.chunk().len());
        }
    }

    fn end(&mut self, whole: bool) {
        self.begin();
        let end = match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return,
            State::Taken(digest) if whole => End::Whole(digest.finalize().into()),
            State::New | State::Taken(_) | State::Unwanted => End::Truncated,
        };
        self.result.set(end);
    }
}

impl<B: Body> DigestBody<B> {
    fn new(inner: B, result: Shared) -> Self {
        let mut state = State::New;
        // No reader comes to the end of such a body.
        if inner.is_end_stream() {
            result.set(End::Whole(*EMPTY));
            state = State::Ended;
        }
        Self { inner, taking: Taking { state, result } }
    }
}

/// The digest of no data.
static EMPTY: LazyLock<[u8; 32]> = LazyLock::new(|| Sha256::digest([]).into());

impl<B: Body<Data: Clone>> Body for DigestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame<B::Error, B::Data> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        match &frame {
            None => this.taking.end(true),
            Some(Err(_)) => this.taking.end(false),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.taking.update(data);
                }
                // A connection polls no further then.
                if frame.is_trailers() || this.inner.is_end_stream() {
                    this.taking.end(true);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Body> fmt::Debug for DigestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = !matches!(self.taking.state, State::Ended);
        f.debug_struct("DigestBody").field("open", &open).finish_non_exhaustive()
    }
}

/// How a body ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// Its digest.
    Whole([u8; 32]),
    /// It failed, was dropped before its end, or was read before its digest was wanted.
    Truncated,
}

/// The end of a body, in the extensions of its response.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Slot>>);

#[derive(Default)]
struct Slot {
    wanted: bool,
    end: Option<End>,
    waiting: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the digest, and returns where it comes.
    pub(super) fn wanted(&self) -> Self {
        self.lock().wanted = true;
        self.clone()
    }

    fn is_wanted(&self) -> bool {
        self.lock().wanted
    }

    fn set(&self, end: End) {
        let waiting = {
            let mut slot = self.lock();
            slot.end = Some(end);
            slot.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// Waits for the end of the body. One task waits.
    pub(super) async fn end(&self) -> End {
        poll_fn(|cx| {
            let mut slot = self.lock();
            match slot.end {
                Some(end) => Poll::Ready(end),
                None => {
                    slot.waiting = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}
