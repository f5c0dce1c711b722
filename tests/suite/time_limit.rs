//! Time limit: when it ends a call, which side wins at the deadline, and which values are dropped.

mod edges;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use buttress::time_limit::{Config, TimeLimitLayer};
use buttress::{Clock, ErrorKind, Event, Name, as_response};
use tower::{Layer, Service};

use crate::support::{
    AppError, Ask, Scripted, Step, Waiter, Watch, begin, behind, call, is_pending, ms, now,
};

fn limit(limit: u64) -> TimeLimitLayer {
    TimeLimitLayer::new(Config::new(ms(limit)).name("api")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn it_ends_a_call_at_its_instant() {
    let layer = limit(100);
    let (mut service, log) = behind(&layer, []);
    log.always(Step::Never);
    let waiter = Waiter::new();
    let mut response = begin(&mut service, Ask(0));
    waiter.woken_after(100, |waiter| waiter.poll(&mut response).is_pending()).await;
    let error = now(response).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::TimedOut));
    assert_eq!(error.to_string(), r#"time limit "api" of 100ms passed"#);
    let error = error.refusal();
    assert_eq!((error.time_limit(), error.retry_after()), (Some(ms(100)), None));
    assert!(!error.never_reached_service(), "it may have done its work");
    assert_eq!(layer.handle().stats().timed_out, 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_ready_at_the_deadline_wins() {
    for polled_before in [false, true] {
        let (inner, log) = Scripted::new();
        log.always(Step::AnswerAfter(100));
        let layer = limit(100);
        let mut response = begin(&mut layer.layer(inner), Ask(0));
        if polled_before {
            assert!(is_pending(&mut response));
        }
        tokio::time::advance(ms(100)).await;
        assert_eq!(now(response), Ok(1), "polled before: {polled_before}");
        assert_eq!(layer.handle().stats().timed_out, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_there_all_along_wins_however_late_it_is_looked_at() {
    let (inner, _log) = Scripted::new();
    let response = begin(&mut limit(100).layer(inner), Ask(0));
    tokio::time::advance(ms(100_000)).await;
    assert_eq!(now(response), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_millisecond_later_is_too_late() {
    let (inner, log) = Scripted::new();
    log.always(Step::AnswerAfter(101));
    let watch = Watch::start();
    let error = call(&mut limit(100).layer(inner), Ask(0)).await.unwrap_err();
    assert_eq!((error.kind(), watch.ms()), (Some(ErrorKind::TimedOut), 100));
}

#[tokio::test(start_paused = true)]
async fn it_counts_from_the_call_not_from_the_first_poll() {
    let (inner, log) = Scripted::new();
    log.always(Step::Never);
    let mut response = begin(&mut limit(100).layer(inner), Ask(0));
    tokio::time::advance(ms(60)).await;
    assert!(is_pending(&mut response));
    tokio::time::advance(ms(39)).await;
    assert!(is_pending(&mut response));
    tokio::time::advance(ms(1)).await;
    assert!(now(response).is_err());
}

#[tokio::test(start_paused = true)]
async fn the_time_until_the_service_is_ready_does_not_count() {
    let (mut service, log) = behind(&limit(100), []);
    log.always(Step::AnswerAfter(99));
    log.block();
    let waiter = Waiter::new();
    assert!(waiter.poll_ready(&mut service).is_pending());
    tokio::time::advance(ms(500)).await;
    log.unblock();
    assert_eq!(call(&mut service, Ask(0)).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn the_inner_call_is_gone_before_anybody_hears_of_the_timeout() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (inner, log) = Scripted::new();
    log.always(Step::Never);
    let (hook, event) = (heard.clone(), heard.clone());
    let (hook_log, event_log) = (log.clone(), log.clone());
    let config = Config::new(ms(100))
        .on_timeout(move |error| {
            let text = format!("hook: {}, {} live", error.kind(), hook_log.live());
            hook.lock().unwrap().push(text);
        })
        .observer(move |_: Name, told: &Event| {
            let kind = matches!(told, Event::TimedOut(_));
            event.lock().unwrap().push(format!("event: {kind}, {} live", event_log.live()));
        });
    let mut response = begin(&mut TimeLimitLayer::new(config).unwrap().layer(inner), Ask(0));
    assert!(is_pending(&mut response));
    tokio::time::advance(ms(100)).await;
    assert!(!is_pending(&mut response), "the caller got the error, and keeps the future");
    assert_eq!(log.live(), 0);
    let heard = heard.lock().unwrap();
    assert_eq!(*heard, ["event: true, 0 live", "hook: timed-out, 0 live"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_can_have_a_limit_of_its_own() {
    let layer = limit(100).per_request(|request: &Ask| match request.0 {
        0 => None,
        limit => Some(ms(limit.into())),
    });
    for (request, ended) in [(0, 100), (30, 30), (700, 700)] {
        let (inner, log) = Scripted::new();
        log.always(Step::Never);
        let watch = Watch::start();
        let error = call(&mut layer.layer(inner), Ask(request)).await.unwrap_err();
        assert_eq!(watch.ms(), ended);
        assert_eq!(error.refusal().time_limit(), Some(ms(ended)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_zero_lets_only_an_answer_pass_that_is_there_at_once() {
    let layer = limit(100).per_request(|_: &Ask| Some(ms(0)));
    let (mut service, _) = behind(&layer, [Step::Answer, Step::AnswerAfter(1)]);
    assert_eq!(now(begin(&mut service, Ask(0))), Ok(1));
    assert_eq!(now(begin(&mut service, Ask(0))).unwrap_err().kind(), Some(ErrorKind::TimedOut));
    assert_eq!(TimeLimitLayer::new(Config::new(ms(0))).unwrap_err().field(), "limit");
}

#[tokio::test(start_paused = true)]
async fn a_limit_beyond_all_time_never_ends_a_call() {
    let layer = limit(100).per_request(|_: &Ask| Some(std::time::Duration::MAX));
    let (inner, log) = Scripted::new();
    log.always(Step::AnswerAfter(86_400_000));
    assert_eq!(call(&mut layer.layer(inner), Ask(0)).await, Ok(1));
}

/// Without an exception from tokio's cooperative budget the timer would stay pending in every poll.
#[tokio::test(start_paused = true)]
async fn a_call_that_uses_up_the_cooperative_budget_on_every_poll_still_ends() {
    let inner = tower::service_fn(|_: Ask| {
        poll_fn(|cx| {
            loop {
                let budget = pin!(tokio::task::coop::consume_budget());
                if budget.poll(cx).is_pending() {
                    return Poll::<Result<u32, AppError>>::Pending;
                }
            }
        })
    });
    let mut service = limit(100).layer(inner);
    let watch = Watch::start();
    let task = tokio::spawn(async move { service.call(Ask(0)).await });
    tokio::task::yield_now().await;
    tokio::time::advance(ms(99)).await;
    assert!(!task.is_finished());
    tokio::time::advance(ms(1)).await;
    // Not awaited before it has ended: a call that never ends never lets the runtime rest.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(task.is_finished());
    let error = task.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), watch.ms()), (Some(ErrorKind::TimedOut), 100));
}

#[tokio::test(start_paused = true)]
async fn dropped_it_drops_the_call_and_its_timer() {
    let (inner, log) = Scripted::new();
    log.always(Step::Never);
    let layer = limit(100);
    let waiter = Waiter::new();
    let mut response = begin(&mut layer.layer(inner), Ask(0));
    assert!(waiter.poll(&mut response).is_pending());
    drop(response);
    tokio::time::advance(ms(200)).await;
    assert_eq!((waiter.wakes(), log.live(), layer.handle().stats().timed_out), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_can_be_a_response() {
    let (inner, log) = Scripted::new();
    log.always(Step::Never);
    let layer = limit(100).reject(as_response(|error: buttress::Error| {
        error.time_limit().unwrap().as_millis() as u32
    }));
    assert_eq!(call(&mut layer.layer(inner), Ask(0)).await, Ok(100));
}

#[tokio::test(start_paused = true)]
async fn a_live_change_counts_for_calls_that_begin_later() {
    let layer = limit(100);
    let (mut service, log) = behind(&layer, []);
    log.always(Step::Never);
    let mut before = begin(&mut service, Ask(0));
    assert!(is_pending(&mut before));
    layer.handle().reconfigure(&Config::new(ms(30))).unwrap();
    let mut after = begin(&mut service, Ask(0));
    assert!(is_pending(&mut after));
    tokio::time::advance(ms(30)).await;
    assert!(now(after).is_err());
    assert!(is_pending(&mut before));
    tokio::time::advance(ms(70)).await;
    assert_eq!(now(before).unwrap_err().refusal().time_limit(), Some(ms(100)));
}

#[tokio::test(start_paused = true)]
async fn without_tower_it_runs_a_future() {
    let handle = limit(100).handle();
    assert_eq!(handle.run(async { 7 }).await, Ok(7));
    let watch = Watch::start();
    let slow = handle.run(Clock::default().sleep(ms(101)));
    assert_eq!(slow.await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(watch.ms(), 100);
}

/// A call that ends immediately needs no timer, and so no runtime.
#[test]
fn an_answer_at_the_first_poll_touches_no_timer() {
    let (inner, _log) = Scripted::new();
    assert_eq!(now(begin(&mut limit(100).layer(inner), Ask(0))), Ok(1));
}
