//! The digest of the body of an answer, taken while the body streams.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, SizeHint};
use sha2::Sha256;
use tokio::sync::oneshot;
use tower::BoxError;

use crate::Body;
use crate::body::{PolledFrame, is_read};

/// How a body ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// Every byte was read.
    Whole { length: u64, digest: [u8; 32] },
    /// The body is longer than the limit. Its end is unknown.
    TooLong,
    /// The body failed, or its reader left before the end.
    Broken,
}

/// A digest in progress. It keeps no data.
struct Digest {
    hash: Sha256,
    length: u64,
    limit: u64,
}

impl Digest {
    fn new(limit: u64) -> Self {
        Self { hash: sha2::Digest::new(), length: 0, limit }
    }

    /// Adds data, and hashes none beyond the limit.
    fn add(&mut self, data: &[u8]) {
        self.length = self.length.saturating_add(data.len() as u64);
        if !self.is_too_long() {
            sha2::Digest::update(&mut self.hash, data);
        }
    }

    fn is_too_long(&self) -> bool {
        self.length > self.limit
    }

    fn end(self) -> End {
        let Self { hash, length, .. } = self;
        End::Whole { length, digest: sha2::Digest::finalize(hash).into() }
    }
}

/// Reads a body to its end, or until it is longer than `limit` bytes.
pub(super) async fn read(body: &mut Body, limit: u64) -> End {
    if body.size_hint().lower() > limit {
        return End::TooLong;
    }
    let mut digest = Digest::new(limit);
    loop {
        match http_body_util::BodyExt::frame(body).await {
            None => return digest.end(),
            Some(Err(_)) => return End::Broken,
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    digest.add(data);
                }
                if digest.is_too_long() {
                    return End::TooLong;
                }
            }
        }
    }
}

/// Reports the end of the body that a client reads. Dropping it reports a body that broke off.
#[derive(Debug)]
pub(crate) struct Observer {
    limit: u64,
    end: oneshot::Sender<End>,
}

/// Creates an observer, and returns where the end of its body arrives.
pub(super) fn observer(limit: u64) -> (Observer, oneshot::Receiver<End>) {
    let (end, receiver) = oneshot::channel();
    (Observer { limit, end }, receiver)
}

impl Observer {
    /// Returns a body with the frames of `body`, whose digest is taken while the client reads them.
    pub(crate) fn observe(self, body: Body) -> Body {
        let Self { limit, end } = self;
        if body.size_hint().lower() > limit {
            report(end, End::TooLong);
            return body;
        }
        if body.is_end_stream() {
            report(end, Digest::new(limit).end());
            return body;
        }
        Body::new(Observed { body, taking: Some((Digest::new(limit), end)) })
    }
}

/// Reports the end of a body. The comparison may have ended already.
fn report(end: oneshot::Sender<End>, how: End) {
    let _ = end.send(how);
}

/// A body whose digest is taken.
struct Observed {
    body: Body,
    /// `None` once the end is reported.
    taking: Option<(Digest, oneshot::Sender<End>)>,
}

impl Observed {
    fn ended(&mut self) {
        if let Some((digest, end)) = self.taking.take() {
            report(end, digest.end());
        }
    }

    fn add(&mut self, data: &Bytes) {
        let Some((digest, _)) = &mut self.taking else { return };
        digest.add(data);
        if digest.is_too_long() {
            if let Some((_, end)) = self.taking.take() {
                report(end, End::TooLong);
            }
        }
    }
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            None => self.ended(),
            // Dropping the sender reports a body that broke off.
            Some(Err(_)) => self.taking = None,
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.add(data);
                }
                // A connection polls no further then.
                if self.body.is_end_stream() {
                    self.ended();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        // A connection that has sent all announced bytes may not ask for the end.
        if is_read(&self.body) {
            self.ended();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    /// A body of these frames. `Err` breaks it off.
    fn body(frames: &[Result<&'static str, &'static str>]) -> Body {
        let frames: VecDeque<_> = frames.to_vec().into();
        let frames = frames.into_iter().map(|frame| match frame {
            Ok(data) => Ok(Frame::data(Bytes::from_static(data.as_bytes()))),
            Err(error) => Err(BoxError::from(error)),
        });
        Body::new(StreamBody::new(futures_util::stream::iter(frames)))
    }

    async fn read_all(frames: &[Result<&'static str, &'static str>], limit: u64) -> End {
        read(&mut body(frames), limit).await
    }

    #[tokio::test]
    async fn a_digest_is_of_the_data_and_not_of_its_frames() {
        let whole = read_all(&[Ok("abc")], 3).await;
        assert!(matches!(whole, End::Whole { length: 3, .. }), "{whole:?}");
        assert_eq!(read_all(&[Ok("a"), Ok(""), Ok("bc")], 3).await, whole);
        assert_ne!(read_all(&[Ok("abd")], 3).await, whole);
        assert_eq!(read_all(&[Ok("ab"), Err("reset")], 3).await, End::Broken);
    }

    #[tokio::test]
    async fn a_body_of_the_limit_is_whole_and_one_byte_more_is_too_long() {
        for frames in [&[Ok("abc"), Ok("d")][..], &[Ok("abcd")], &[Ok("abc"), Ok("d"), Err("x")]] {
            assert_eq!(read_all(frames, 3).await, End::TooLong, "{frames:?}");
        }
        // An announced length needs no reading.
        let mut announced = Body::from("abcd");
        assert_eq!(read(&mut announced, 3).await, End::TooLong);
        assert!(!announced.is_end_stream(), "it was read");
    }

    #[tokio::test]
    async fn the_reader_of_an_observed_body_gets_every_frame_and_the_end_is_reported() {
        let whole = read_all(&[Ok("abcd")], 9).await;
        let empty = read_all(&[], 9).await;
        for (frames, limit, expected) in [
            (&[Ok("abc"), Ok("d")][..], 4, whole),
            (&[Ok("abc"), Ok("d")], 3, End::TooLong),
            (&[], 0, empty),
        ] {
            let (observer, end) = observer(limit);
            let read = observer.observe(body(frames)).collect().await.unwrap().to_bytes();
            assert_eq!(read.len(), frames.iter().map(|frame| frame.unwrap().len()).sum::<usize>());
            assert_eq!(end.await.unwrap(), expected, "{frames:?} {limit}");
        }
        let (first, end) = observer(9);
        let failed = first.observe(body(&[Ok("abc"), Err("reset")])).collect().await;
        assert_eq!(failed.unwrap_err().to_string(), "reset");
        assert!(end.await.is_err());
        let (second, end) = observer(9);
        let mut left = second.observe(body(&[Ok("abc"), Ok("d")]));
        left.frame().await.unwrap().unwrap();
        drop(left);
        assert!(end.await.is_err());
        // A length that is announced and too long is reported before the first byte.
        let (third, mut end) = observer(3);
        let unread = third.observe(Body::from("abcd"));
        assert_eq!(end.try_recv().unwrap(), End::TooLong);
        assert_eq!(unread.collect().await.unwrap().to_bytes(), "abcd");
        let (fourth, end) = observer(9);
        drop(fourth);
        assert!(end.await.is_err());
    }
}
