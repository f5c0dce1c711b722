use std::sync::Arc;
use std::sync::Mutex;

use http_body_util::{BodyExt, Full};

use super::*;

struct Recorder(Arc<Mutex<Vec<End>>>);

impl Watch for Recorder {
    fn ended(&mut self, end: End) {
        self.0.lock().unwrap().push(end);
    }
}

fn watched(body: Body) -> (Body, Arc<Mutex<Vec<End>>>) {
    let ends = Arc::default();
    (body.watched(Recorder(Arc::clone(&ends))), ends)
}

/// A body of frames that are ready.
struct Frames(Vec<Result<Frame<Bytes>, BoxError>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(if self.0.is_empty() { None } else { Some(self.0.remove(0)) })
    }
}

#[tokio::test]
async fn a_guard_is_released_at_the_end_of_the_body() {
    let frames = Frames(vec![Ok(Frame::data(Bytes::from_static(b"a")))]);
    let permit = Arc::new(());
    let (mut body, ends) = watched(Body::new(frames).hold(Arc::clone(&permit)));
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!((Arc::strong_count(&permit), ends.lock().unwrap().len()), (2, 0));
    assert!(body.frame().await.is_none());
    assert_eq!(Arc::strong_count(&permit), 1);
    drop(body);
    assert_eq!(*ends.lock().unwrap(), [End::Whole]);
}

#[tokio::test]
async fn a_guard_is_released_at_an_error_and_on_drop() {
    let (mut body, ends) = watched(Body::new(Frames(vec![Err("broken".into())])));
    assert!(body.frame().await.unwrap().is_err());
    assert_eq!(*ends.lock().unwrap(), [End::Failed]);
    // Nothing follows an error.
    assert!(body.frame().await.is_none());
    assert_eq!(ends.lock().unwrap().len(), 1);

    let (body, ends) = watched(Body::from("unread"));
    drop(body);
    assert_eq!(*ends.lock().unwrap(), [End::Dropped]);
    // A reader that knows the end from the length does not ask for it.
    let (mut body, ends) = watched(Body::from("read"));
    assert!(body.frame().await.unwrap().is_ok());
    drop(body);
    assert_eq!(*ends.lock().unwrap(), [End::Whole]);
}

/// Regression: a connection of HTTP/1.1 reads nothing after the trailers.
#[tokio::test]
async fn a_body_ends_with_its_trailers() {
    let trailers = http::HeaderMap::from_iter([(http::header::ETAG, "1".parse().unwrap())]);
    let frames = Frames(vec![Ok(Frame::trailers(trailers)), Err("polled after the end".into())]);
    let (mut body, ends) = watched(Body::new(frames));
    assert!(!http_body::Body::is_end_stream(&body));
    assert!(body.frame().await.unwrap().unwrap().is_trailers());
    // A copy: the body reports its end also if the assertion fails.
    let seen = ends.lock().unwrap().clone();
    assert_eq!(seen, [End::Whole]);
    assert!(http_body::Body::is_end_stream(&body));
    assert!(body.frame().await.is_none());
    drop(body);
    assert_eq!(ends.lock().unwrap().len(), 1);
}

/// Regression: a connection of HTTP/1.1 reads nothing after the announced length.
#[tokio::test]
async fn a_body_that_is_dropped_after_its_announced_length_is_whole() {
    for (announced, expected) in [(3, End::Whole), (4, End::Dropped)] {
        let (mut body, ends) = watched(Body::new(Announced(announced, Some("abc"))));
        body.frame().await.unwrap().unwrap();
        assert!(ends.lock().unwrap().is_empty(), "trailers may come");
        drop(body);
        assert_eq!(*ends.lock().unwrap(), [expected]);
    }
}

/// A body of HTTP/2 that announces its length, and whose end is not known with its data.
struct Announced(u64, Option<&'static str>);

impl http_body::Body for Announced {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(data) = self.1.take() else { return Poll::Pending };
        self.0 -= data.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(data)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

#[test]
fn held_values_move_to_another_owner() {
    let permit = Arc::new(());
    let mut body = Body::from("x").hold(Arc::clone(&permit));
    let held = body.take_held();
    drop(body);
    assert_eq!(Arc::strong_count(&permit), 2);
    drop(held);
    assert_eq!(Arc::strong_count(&permit), 1);
}

#[test]
fn a_body_at_its_end_becomes_an_empty_one() {
    assert!(Body::new(Full::<Bytes>::default()).is_empty());
    assert!(Body::new(Body::new(Body::empty())).is_empty());
    assert!(Body::from(String::new()).is_empty());
    assert!(!Body::new(Full::from("x")).is_empty());
    // The same body is not boxed again, and keeps what it holds.
    let permit = Arc::new(());
    let body = Body::new(Body::from("x").hold(Arc::clone(&permit)));
    assert!(matches!(body.kind, Kind::Full(_)));
    assert_eq!(Arc::strong_count(&permit), 2);
}

#[test]
fn a_body_is_small() {
    assert!(size_of::<Body>() <= 56, "{}", size_of::<Body>());
}
