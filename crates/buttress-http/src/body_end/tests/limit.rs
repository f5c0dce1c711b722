//! Limits on the time of a body.

use buttress::time_limit::{self, TimeLimitLayer};
use buttress::{Error as Refusal, ErrorKind, context};
use tokio::time::advance;

use super::*;
use crate::frame::PolledFrame;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn limit(seconds: u32) -> time_limit::Handle {
    TimeLimitLayer::after(seconds * SECOND).handle()
}

/// A body that makes its reader wait, for a number of polls, before each of its frames.
fn slow(frames: usize, waits: usize) -> Response<Script> {
    let frame = || std::iter::repeat_n(Wait, waits).chain([Data("a")]);
    Response::new(script((0..frames).flat_map(|_| frame())))
}

/// The error of a body that its limit cut.
fn cut(polled: PolledFrame<BoxError>) -> Refusal {
    let Poll::Ready(Some(Err(error))) = polled else { panic!("it is not cut") };
    *error.downcast().unwrap()
}

#[tokio::test(start_paused = true)]
async fn edge_2_20_a_slow_but_steady_stream_of_an_hour_lives() {
    let handle = limit(60);
    let mut response = call(&BodyTimeLimitLayer::idle(&handle), slow(60, 2)).await;
    let begun = Clock::default().now();
    for _ in 0..60 {
        assert!(poll(&mut response).is_pending());
        advance(60 * SECOND - MS).await;
        assert!(poll(&mut response).is_pending(), "not yet");
        assert_eq!(data(&mut response), "a");
    }
    assert!(Clock::default().now() - begun > 3590 * SECOND);
    assert!(matches!(poll(&mut response), Poll::Ready(None)));
    assert_eq!(handle.stats().timed_out, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_falls_silent_is_cut_after_the_idle_time() {
    let handle = limit(60);
    let mut response = call(&BodyTimeLimitLayer::idle(&handle), slow(3, 3)).await;
    assert!(poll(&mut response).is_pending());
    advance(30 * SECOND).await;
    assert!(poll(&mut response).is_pending());
    assert!(poll(&mut response).is_pending());
    assert_eq!(data(&mut response), "a");
    assert!(poll(&mut response).is_pending(), "the time begins");
    advance(60 * SECOND - MS).await;
    assert!(poll(&mut response).is_pending());
    advance(MS).await;
    let error = cut(poll(&mut response));
    assert_eq!((error.kind(), error.time_limit()), (ErrorKind::TimedOut, Some(60 * SECOND)));
    assert_eq!(handle.stats().timed_out, 1);
    assert!(matches!(poll(&mut response), Poll::Ready(None)), "the body inside is gone");
    assert!(response.body().is_end_stream());
    assert_eq!(response.body().size_hint().exact(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_its_time_uses_none_of_the_idle_time() {
    let mut response = call(&BodyTimeLimitLayer::idle(&limit(60)), slow(2, 1)).await;
    advance(600 * SECOND).await;
    assert!(poll(&mut response).is_pending(), "the time begins");
    assert_eq!(data(&mut response), "a");
    advance(600 * SECOND).await;
    assert!(poll(&mut response).is_pending());
    advance(600 * SECOND).await;
    assert_eq!(data(&mut response), "a", "a frame that is ready wins");
}

#[tokio::test(start_paused = true)]
async fn the_idle_time_is_changed_live() {
    let handle = limit(60);
    let mut response = call(&BodyTimeLimitLayer::idle(&handle), slow(2, 2)).await;
    assert!(poll(&mut response).is_pending());
    handle.reconfigure(&time_limit::Config::new(SECOND)).unwrap();
    advance(2 * SECOND).await;
    assert!(poll(&mut response).is_pending(), "for times that begin from now on");
    assert_eq!(data(&mut response), "a");
    assert!(poll(&mut response).is_pending());
    advance(SECOND).await;
    assert_eq!(cut(poll(&mut response)).time_limit(), Some(SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_whole_body_has_its_limit_from_the_head_on_also_without_a_wait() {
    let handle = limit(10);
    let layer = BodyTimeLimitLayer::whole(&handle);
    let mut response = call(&layer, slow(3, 1)).await;
    assert!(poll(&mut response).is_pending());
    assert_eq!(data(&mut response), "a");
    advance(10 * SECOND).await;
    assert_eq!(cut(poll(&mut response)).time_limit(), Some(10 * SECOND));

    // A body that is always ready.
    let mut response = call(&layer, slow(3, 0)).await;
    advance(10 * SECOND).await;
    assert_eq!(data(&mut response), "a", "ready at the end of the limit");
    advance(MS).await;
    assert_eq!(cut(poll(&mut response)).kind(), ErrorKind::TimedOut);
    assert_eq!(handle.stats().timed_out, 2);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_request_ends_the_body_if_it_is_heeded() {
    let deadline = Clock::default().now() + 2 * SECOND;
    let heeds = BodyTimeLimitLayer::idle(&limit(60)).heed_deadline();
    let scope = context::Context::new().with_deadline(deadline);
    let mut response = scope.scope(call(&heeds, slow(3, 2))).await;
    assert!(poll(&mut response).is_pending());
    advance(SECOND).await;
    assert!(poll(&mut response).is_pending());
    assert_eq!(data(&mut response), "a");
    assert!(poll(&mut response).is_pending());
    advance(SECOND).await;
    assert_eq!(cut(poll(&mut response)).kind(), ErrorKind::DeadlineExceeded);

    let ignores = BodyTimeLimitLayer::idle(&limit(60));
    let deadline = Clock::default().now() + 2 * SECOND;
    let scope = context::Context::new().with_deadline(deadline);
    let mut response = scope.scope(call(&ignores, slow(1, 2))).await;
    assert!(poll(&mut response).is_pending());
    advance(3 * SECOND).await;
    assert!(poll(&mut response).is_pending());
    assert_eq!(data(&mut response), "a");
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_a_failure_further_out_and_a_dropped_call_further_in() {
    let breaker = || circuit_breaker::Config::new().count_calls(true).build().unwrap();
    let (outer, inner, bulkhead) = (breaker(), breaker(), one());
    let handles = [outer.handle(), inner.handle()];
    let permits = bulkhead.handle();
    let service = ServiceBuilder::new()
        .layer(bulkhead.until(BodyEnd::new()))
        .layer(outer.until(BodyEnd::new()))
        .layer(BodyTimeLimitLayer::idle(&limit(1)))
        .layer(inner.until(BodyEnd::new()))
        .layer(HoldBodyLayer)
        .service(Answers(slow(1, 9)));
    let mut response = service.oneshot(Request::default()).await.unwrap();
    assert!(poll(&mut response).is_pending());
    assert_eq!(permits.stats().active, 1);
    advance(SECOND).await;
    let _error = cut(poll(&mut response));
    let counted = handles.map(|handle| (handle.stats().failures, handle.stats().successes));
    assert_eq!(counted, [(1, Some(0)), (0, Some(0))]);
    assert_eq!(permits.stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn a_response_without_a_body_and_an_upgrade_have_no_limit() {
    let config = time_limit::Config::new(SECOND).count_calls(true);
    let handle = TimeLimitLayer::new(config).unwrap().handle();
    let layer = BodyTimeLimitLayer::whole(&handle);
    let empty = Script { says_end: true, ..script([]) };
    let _empty = call(&layer, Response::new(empty)).await;
    let mut upgrade = call(&layer, with_status(101, script([]))).await;
    assert!(upgrade.body_mut().take_held().is_empty());
    assert_eq!(handle.stats().calls, Some(0));
    let _body = call(&layer, slow(1, 1)).await;
    assert_eq!(handle.stats().calls, Some(1));
}
