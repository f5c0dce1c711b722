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
