//! Reading a body up to its end or a cap. `layer.rs` has the caps. Beyond its cap `tape.rs` keeps no response, and
//! `future.rs` and `service.rs` refuse the request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;

use super::body::{BufferedBody, Rest, with_bytes};
use crate::ended::polled_after_completion;

/// The most bytes that are allocated for a body before its data arrives.
const ROOM: usize = 16 * 1024;

/// The outcome of reading a body.
pub(super) enum Collected<B: Body> {
    /// The whole body.
    Whole { data: Bytes, trailers: Option<HeaderMap> },
    /// As much as the cap allows, and the rest of the body.
    TooLarge(BufferedBody<B>),
    /// The data before an error, and the error.
    BrokenOff(BufferedBody<B>),
}

/// Reads a body and copies its data: a slice of a chunk would keep the whole read buffer alive.
pub(super) struct Collect<B> {
    /// `None` after the end.
    body: Option<B>,
    read: Vec<u8>,
    trailers: Option<HeaderMap>,
    cap: usize,
}

impl<B: Body> Collect<B> {
    pub(super) fn new(body: B, cap: usize) -> Self {
        let room = usize::try_from(body.size_hint().lower()).unwrap_or(ROOM).min(ROOM).min(cap);
        Self { body: Some(body), read: Vec::with_capacity(room), trailers: None, cap }
    }
}

/// Whether `body` announces more than `cap` bytes.
pub(super) fn exceeds<B: Body>(body: &B, cap: usize) -> bool {
    body.size_hint().lower() > cap as u64
}

impl<B> Future for Collect<B>
where
    B: Body + Unpin,
{
    type Output = Collected<B>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Collected<B>> {
        let Self { body: place, read, trailers, cap } = self.get_mut();
        loop {
            let Some(body) = place else {
                polled_after_completion("idempotency_key::ResponseFuture")
            };
            if exceeds(body, *cap - read.len()) {
                let front = Bytes::from(std::mem::take(read));
                return over(place, |body| {
                    Collected::TooLarge(BufferedBody::partly(
                        front,
                        Bytes::new(),
                        Rest::Stream(body),
                    ))
                });
            }
            let frame = match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => with_bytes(frame),
                Some(Err(error)) => {
                    let (front, error) = (Bytes::from(std::mem::take(read)), error);
                    *place = None;
                    let body = BufferedBody::partly(front, Bytes::new(), Rest::Broken(error));
                    return Poll::Ready(Collected::BrokenOff(body));
                }
                None => {
                    *place = None;
                    let data = Bytes::from(std::mem::take(read));
                    return Poll::Ready(Collected::Whole { data, trailers: trailers.take() });
                }
            };
            match frame.into_data() {
                Ok(data) if data.len() > *cap - read.len() => {
                    let front = Bytes::from(std::mem::take(read));
                    return over(place, |body| {
                        Collected::TooLarge(BufferedBody::partly(front, data, Rest::Stream(body)))
                    });
                }
                Ok(data) => read.extend_from_slice(&data),
                Err(frame) => *trailers = frame.into_trailers().ok().or(trailers.take()),
            }
        }
    }
}

fn over<B, T>(place: &mut Option<B>, end: impl FnOnce(B) -> T) -> Poll<T> {
    match place.take() {
        Some(body) => Poll::Ready(end(body)),
        None => polled_after_completion("idempotency_key::ResponseFuture"),
    }
}
