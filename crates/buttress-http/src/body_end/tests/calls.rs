//! How the permit of a bulkhead follows a body.

use std::sync::Arc;

use super::*;
use crate::frame::PolledFrame;

/// Reads a body of two frames, and returns how many permits are held before, between and after.
fn read(handle: &bulkhead::Handle, mut response: Held) -> [u32; 3] {
    let held = || handle.stats().active;
    let before = held();
    assert_eq!(data(&mut response), "a");
    let between = held();
    assert_eq!(data(&mut response), "b");
    assert!(matches!(poll(&mut response), Poll::Ready(None)));
    [before, between, held()]
}

fn two_frames() -> Response<Script> {
    Response::new(script([Data("a"), Data("b")]))
}

#[tokio::test]
async fn without_the_choice_a_permit_ends_with_the_head() {
    let layer = one();
    let handle = layer.handle();
    let response = call(&layer, two_frames()).await;
    assert_eq!(read(&handle, response), [0, 0, 0]);
}

#[tokio::test]
async fn a_permit_is_held_until_the_end_of_the_body_in_every_mode() {
    let refuse = one().until(BodyEnd::new());
    let handle = refuse.handle();
    assert_eq!(read(&handle, call(&refuse, two_frames()).await), [1, 1, 0]);

    let held = call(&refuse, two_frames()).await;
    let service = refuse.layer(HoldBodyLayer.layer(Answers(two_frames())));
    let refused = service.oneshot(Request::default()).await.unwrap_err();
    assert!(refused.to_string().contains("at capacity"), "{refused}");
    drop(held);
    assert_eq!(read(&handle, call(&refuse, two_frames()).await), [1, 1, 0]);

    let queued = bulkhead::Config::new().max_concurrent(1).queue(1).build().unwrap().queued();
    let queued = queued.until(BodyEnd::new());
    let handle = queued.handle();
    let first = call(&queued, two_frames()).await;
    let waits = tokio::spawn({
        let queued = queued.clone();
        async move { call(&queued, two_frames()).await }
    });
    tokio::task::yield_now().await;
    assert_eq!((handle.stats().active, handle.stats().queued), (1, 1), "it waits for the body");
    assert_eq!(read(&handle, first), [1, 1, 1], "the waiter gets the permit at the end");
    assert_eq!(read(&handle, waits.await.unwrap()), [1, 1, 0]);

    let ready = one().backpressure().until(BodyEnd::new());
    let handle = ready.handle();
    assert_eq!(read(&handle, call(&ready, two_frames()).await), [1, 1, 0]);

    let leaked = one().until(BodyEnd::new()).leak();
    let handle = leaked.handle();
    assert_eq!(read(&handle, call(&leaked, two_frames()).await), [1, 1, 0]);

    let config = bulkhead::Config::new().max_concurrent(1);
    let keyed = KeyedBulkheadLayer::new(config, 1, |_: &Request<()>| 7).unwrap();
    let keyed = keyed.until(BodyEnd::new());
    let response = call(&keyed, two_frames()).await;
    let handle = keyed.handle().get(&7).unwrap();
    assert_eq!(read(&handle, response), [1, 1, 0]);
}

#[tokio::test]
async fn a_key_whose_body_streams_is_not_forgotten() {
    let config = bulkhead::Config::new().max_concurrent(1);
    let keyed = KeyedBulkheadLayer::new(config, 1, |_: &Request<()>| 7).unwrap();
    let keyed = keyed.until(BodyEnd::new());
    let response = call(&keyed, two_frames()).await;
    let refused = keyed.handle().try_acquire(&8).unwrap_err();
    assert_eq!(refused.kind(), buttress::ErrorKind::TooManyKeys);
    drop(response);
    assert!(keyed.handle().try_acquire(&8).is_ok());
}

#[tokio::test]
async fn a_permit_returns_at_the_last_frame_at_trailers_on_error_and_on_drop() {
    let layer = one().until(BodyEnd::new());
    let handle = layer.handle();
    let active = || handle.stats().active;

    // A reader does not poll again after a body that says that it is at its end.
    let body = Script { says_end: true, ..script([Data("a"), Data("b")]) };
    let mut response = call(&layer, Response::new(body)).await;
    data(&mut response);
    assert_eq!(active(), 1);
    data(&mut response);
    assert_eq!(active(), 0, "at the last frame");
    drop(response);
    assert_eq!(active(), 0, "once");

    // Nor after trailers.
    let body = script([Data("a"), Trailers(HeaderMap::new())]);
    let mut response = call(&layer, Response::new(body)).await;
    data(&mut response);
    assert_eq!(active(), 1);
    assert!(matches!(poll(&mut response), Poll::Ready(Some(Ok(frame))) if frame.is_trailers()));
    assert_eq!(active(), 0, "at the trailers");

    let body = script([Data("a"), Wait, Error]);
    let mut response = call(&layer, Response::new(body)).await;
    data(&mut response);
    assert!(poll(&mut response).is_pending());
    assert_eq!(active(), 1);
    let Poll::Ready(Some(Err(error))) = poll(&mut response) else { panic!("an error") };
    assert_eq!(error.to_string(), "broken off");
    assert_eq!(active(), 0, "on error");

    let response = call(&layer, two_frames()).await;
    assert_eq!(active(), 1);
    drop(response);
    assert_eq!(active(), 0, "on drop");

    let (_, body) = call(&layer, two_frames()).await.into_parts();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "ab");
    assert_eq!(active(), 0, "by a reader that collects");
}

#[tokio::test]
async fn a_permit_returns_when_the_body_panics_and_when_its_reader_does() {
    let layer = one().until(BodyEnd::new());
    let handle = layer.handle();
    let mut response = call(&layer, Response::new(script([Data("a"), Panic]))).await;
    data(&mut response);
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut response))).is_err());
    assert_eq!(handle.stats().active, 0, "immediately, although the body is not dropped yet");
    drop(response);

    let response = call(&layer, two_frames()).await;
    let reader = AssertUnwindSafe(|| {
        let _response = response;
        panic!("in the reader");
    });
    assert!(catch_unwind(reader).is_err());
    assert_eq!(handle.stats().active, 0);
}

#[tokio::test]
async fn a_response_without_a_body_ends_with_its_head() {
    let layer = one().until(BodyEnd::new());
    let handle = layer.handle();
    let empty = Script { says_end: true, ..script([]) };
    let _empty = call(&layer, Response::new(empty)).await;
    assert_eq!(handle.stats().active, 0, "a body at its end, as in an answer to HEAD");
    for status in [204, 304] {
        // A body that the server will not send.
        let _response = call(&layer, with_status(status, script([Data("a")]))).await;
        assert_eq!(handle.stats().active, 0, "{status}");
    }
    let _response = call(&layer, with_status(205, script([Data("a")]))).await;
    assert_eq!(handle.stats().active, 1, "any other status has a body");
}

#[tokio::test]
async fn a_101_holds_its_permit_until_what_was_taken_ends() {
    let layer = one().until(BodyEnd::new());
    let handle = layer.handle();
    let upgrade = || with_status(101, Script { says_end: true, ..script([]) });
    let mut response = call(&layer, upgrade()).await;
    let held = response.body_mut().take_held();
    assert!(!held.is_empty());
    drop(response);
    assert_eq!(handle.stats().active, 1, "the tunnel has it");
    held.end(Outcome::Success);
    assert_eq!(handle.stats().active, 0);

    let response = call(&layer, upgrade()).await;
    assert_eq!(handle.stats().active, 1);
    drop(response);
    assert_eq!(handle.stats().active, 0, "no tunnel took it");
}

#[tokio::test]
async fn a_body_that_is_polled_after_its_end_ends_nothing_again() {
    let layer = one().until(BodyEnd::new());
    let mut ended = call(&layer, two_frames()).await;
    while let Poll::Ready(Some(_)) = poll(&mut ended) {}
    let _next = call(&layer, two_frames()).await;
    for _ in 0..3 {
        assert!(matches!(poll(&mut ended), Poll::Ready(None)));
        assert_eq!(layer.handle().stats().active, 1, "the permit of the next call");
    }
    drop(ended);
    assert_eq!(layer.handle().stats().active, 1);
}

#[tokio::test]
async fn frames_trailers_hint_and_end_are_those_of_the_body_inside() {
    let layer = one().until(BodyEnd::new());
    let fields = HeaderMap::from_iter([("a".parse().unwrap(), HeaderValue::from_static("b"))]);
    let body = script([Data("ab"), Data("c"), Trailers(fields.clone())]);
    let body = Script { says_end: true, announced: Some(3), ..body };
    let mut response = call(&layer, Response::new(body)).await;
    assert_eq!(response.body().size_hint().exact(), Some(3));
    assert!(!response.body().is_end_stream());
    assert_eq!(data(&mut response), "ab");
    assert_eq!(response.body().size_hint().exact(), Some(1));
    assert_eq!(data(&mut response), "c");
    assert!(!response.body().is_end_stream(), "trailers come");
    let Poll::Ready(Some(Ok(frame))) = poll(&mut response) else { panic!("no trailers") };
    assert_eq!(frame.into_trailers().unwrap(), fields);
    assert!(response.body().is_end_stream());
}

#[tokio::test]
async fn the_layer_can_go_and_change_while_the_body_streams() {
    let layer = one().until(BodyEnd::new());
    let handle = layer.handle();
    let response = call(&layer, two_frames()).await;
    drop(layer);
    handle.reconfigure(&bulkhead::Config::new().max_concurrent(2)).unwrap();
    let _second = handle.try_acquire().unwrap();
    assert!(handle.try_acquire().is_err(), "the body holds the other permit");
    assert_eq!(read(&handle, response), [2, 2, 1]);
}

#[tokio::test]
async fn a_guard_of_yours_is_dropped_once_at_the_end() {
    let guard = Arc::new(());
    let mut body = HoldBody::new(script([Data("a")])).hold(guard.clone()).hold(guard.clone());
    let mut cx = Context::from_waker(Waker::noop());
    let _frame = Pin::new(&mut body).poll_frame(&mut cx);
    assert_eq!(Arc::strong_count(&guard), 3, "held until the end");
    let _end = Pin::new(&mut body).poll_frame(&mut cx);
    assert_eq!(Arc::strong_count(&guard), 1);
    let dropped = HoldBody::new(script([Data("a")])).hold(guard.clone());
    drop(dropped);
    assert_eq!(Arc::strong_count(&guard), 1);
    let empty = Script { says_end: true, ..script([]) };
    let _ended = HoldBody::new(empty).hold(guard.clone());
    assert_eq!(Arc::strong_count(&guard), 1, "a body at its end holds nothing");
}

#[tokio::test]
async fn the_body_inside_is_dropped_before_the_permit_returns() {
    struct Watched(bulkhead::Handle, Arc<std::sync::Mutex<Vec<u32>>>);

    impl Drop for Watched {
        fn drop(&mut self) {
            self.1.lock().unwrap().push(self.0.stats().active);
        }
    }

    impl Body for Watched {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> PolledFrame<BoxError> {
            Poll::Pending
        }
    }

    let layer = one().until(BodyEnd::new());
    let handle = layer.handle();
    let seen = Arc::<std::sync::Mutex<Vec<u32>>>::default();
    let watched = (handle.clone(), Arc::clone(&seen));
    let service =
        ServiceBuilder::new().layer(layer).layer(HoldBodyLayer).service_fn(move |_: Request<()>| {
            let body = Watched(watched.0.clone(), watched.1.clone());
            std::future::ready(Ok::<_, BoxError>(Response::new(body)))
        });
    drop(service.oneshot(Request::default()).await.unwrap());
    assert_eq!((seen.lock().unwrap().as_slice(), handle.stats().active), (&[1][..], 0));
}
