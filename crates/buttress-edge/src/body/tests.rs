use std::sync::Arc;
use std::sync::Mutex;

use http_body_util::{BodyExt, Full};

use super::*;
use crate::tests::frames::Frames;

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

#[tokio::test]
async fn a_guard_is_released_at_the_end_of_the_body() {
    let frames = Frames::ending([Ok(Frame::data(Bytes::from_static(b"a")))]);
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
    let (mut body, ends) = watched(Body::new(Frames::ending([Err("broken".into())])));
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
    let frames =
        Frames::ending([Ok(Frame::trailers(trailers)), Err("polled after the end".into())]);
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
        // A body of HTTP/2: its end is not known with its data.
        let data = Frame::data(Bytes::from_static(b"abc"));
        let (mut body, ends) = watched(Body::new(Frames::open([data], Some(announced))));
        body.frame().await.unwrap().unwrap();
        assert!(ends.lock().unwrap().is_empty(), "trailers may come");
        drop(body);
        assert_eq!(*ends.lock().unwrap(), [expected]);
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
