//! When the old side answers a request that the new side did not.

use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::context::Context;
use buttress::split::{Ending, FallBack, Split};
use buttress::time_limit::TimeLimitLayer;
use buttress::{Event, Name};
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::support::Log;

/// A split at the share 1 between two scripted services; the new one has `layer` around it.
macro_rules! all_over {
    ($layer:expr, $rule:expr) => {{
        let ((old, olds), (new, news)) = (Scripted::new(), Scripted::new());
        let split = Split::new(old, $layer.layer(new), config(1.0)).unwrap().fall_back($rule);
        (split, olds, news)
    }};
}

fn open_circuit() -> CircuitBreakerLayer {
    let breaker = circuit_breaker::Config::new().name("new-side").build().unwrap();
    breaker.handle().force_open();
    breaker
}

fn counts(olds: &Log, news: &Log) -> (usize, usize) {
    (olds.calls(), news.calls())
}

#[tokio::test(start_paused = true)]
async fn edge_3_6_the_old_side_answers_while_the_circuit_of_the_new_one_is_open() {
    let (mut split, olds, news) = all_over!(open_circuit(), FallBack::unsent(["new-side"]));
    assert_eq!(call(&mut split, Ask(1)).await, Ok(1));
    assert_eq!(counts(&olds, &news), (1, 0));
    assert_eq!(split.handle().stats().fell_back, 1);
    // What the old side answers stands.
    olds.then([Step::Fail]);
    assert_eq!(call(&mut split, Ask(2)).await, Err(AppError::Broken("scripted failure")));
    assert_eq!(split.handle().stats().fell_back, 2);
}

#[tokio::test(start_paused = true)]
async fn edge_3_6_without_a_fallback_the_refusal_stands() {
    let ((old, olds), (new, news)) = (Scripted::new(), Scripted::new());
    let mut split = Split::new(old, open_circuit().layer(new), config(1.0)).unwrap();
    let refused = call(&mut split, Ask(1)).await.unwrap_err();
    assert_eq!(refused.kind(), Some(buttress::ErrorKind::CircuitOpen));
    assert_eq!(counts(&olds, &news), (0, 0));
    assert_eq!(split.handle().stats().fell_back, 0);
}

#[tokio::test(start_paused = true)]
async fn edge_3_6_a_request_that_may_have_reached_the_new_side_goes_to_no_other() {
    let limit = TimeLimitLayer::after(ms(10));
    let (mut split, olds, news) = all_over!(limit, FallBack::unsent(["new-side"]));
    news.then([Step::Fail, Step::Never, Step::Answer]);
    assert_eq!(call(&mut split, Ask(1)).await, Err(AppError::Broken("scripted failure")));
    assert!(call(&mut split, Ask(2)).await.is_err(), "a timeout");
    assert_eq!(call(&mut split, Ask(3)).await, Ok(3));
    assert_eq!(counts(&olds, &news), (0, 3));
    // A side that failed to become ready never had the request.
    news.fail_ready();
    assert_eq!(call(&mut split, Ask(4)).await, Ok(1));
    assert_eq!((counts(&olds, &news), split.handle().stats().fell_back), ((1, 3), 1));
}

/// A new side that does half of its work, and passes on the refusal of the circuit named `inner`.
async fn half_done(inner: &'static str, names: &[&'static str]) -> (usize, usize) {
    let ((old, olds), (new, news)) = (Scripted::new(), Scripted::new());
    let mail = circuit_breaker::Config::new().name(inner).build().unwrap();
    mail.handle().force_open();
    let mail = mail.layer(Scripted::new().0);
    let new = service_fn(move |ask: Ask| {
        let (new, mail) = (new.clone(), mail.clone());
        async move {
            let _charged: u32 = new.oneshot(ask).await?;
            mail.oneshot(ask).await
        }
    });
    let rule = FallBack::unsent(names.iter().copied());
    let mut split = Split::new(old, new, config(1.0)).unwrap().fall_back(rule);
    let refused: Result<u32, AppError> = call(&mut split, Ask(1)).await;
    assert_eq!(refused.unwrap_err().kind(), Some(buttress::ErrorKind::CircuitOpen));
    counts(&olds, &news)
}

#[tokio::test(start_paused = true)]
async fn edge_3_6_a_refusal_that_the_new_side_passes_on_does_its_work_once() {
    assert_eq!(half_done("mail", &["new-side"]).await, (0, 1));
    assert_eq!(half_done("", &["new-side"]).await, (0, 1));
    assert_eq!(half_done("", &["", "new-side"]).await, (0, 1), "no name");
    assert_eq!(half_done("mail", &[]).await, (0, 1));
}

#[tokio::test(start_paused = true)]
async fn edge_3_6_an_idempotent_request_may_reach_both_sides() {
    let limit = TimeLimitLayer::after(ms(10));
    let rule = FallBack::unsent(["new-side"]).idempotent(|ask: &Ask| ask.0 < 10);
    let (mut split, olds, news) = all_over!(limit, rule);
    news.then([Step::Fail, Step::Never, Step::Fail]);
    assert_eq!(call(&mut split, Ask(1)).await, Ok(1));
    assert_eq!(call(&mut split, Ask(2)).await, Ok(2));
    assert_eq!(news.live(), 0);
    assert!(call(&mut split, Ask(10)).await.is_err(), "not idempotent");
    assert_eq!(counts(&olds, &news), (2, 3));
}

/// Regression: the old side got a request that its caller did not wait for any more, and the event counted it as answered.
#[tokio::test(start_paused = true)]
async fn edge_1_8_a_request_whose_deadline_has_passed_does_not_fall_back() {
    for (deadline, expected) in [(ms(10), Err(())), (ms(11), Ok(1))] {
        let limit = TimeLimitLayer::after(ms(10));
        let rule = FallBack::unsent(["new-side"]).idempotent(|_: &Ask| true);
        let (mut split, olds, news) = all_over!(limit, rule);
        news.then([Step::Never]);
        let context = Context::new().with_deadline(Clock::default().now() + deadline);
        let answer = context.scope(call(&mut split, Ask(1))).await;
        assert_eq!(answer.map_err(drop), expected);
        let fell_back = usize::from(expected.is_ok());
        assert_eq!(counts(&olds, &news), (fell_back, 1));
        assert_eq!(split.handle().stats().fell_back, fell_back as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_copy_has_no_fallback_and_a_judge_decides() {
    let rule = FallBack::unsent(["new-side"]).copy(|ask: &Ask| (ask.0 != 1).then_some(*ask));
    let (mut split, olds, _news) = all_over!(open_circuit(), rule);
    assert!(call(&mut split, Ask(1)).await.is_err());
    assert_eq!(call(&mut split, Ask(2)).await, Ok(1));
    assert_eq!(olds.calls(), 1);
    let answered = |_: &Result<u32, AppError>| Ending::Answered;
    let (mut split, olds, _news) =
        all_over!(open_circuit(), FallBack::unsent(["new-side"]).judge(answered));
    assert!(call(&mut split, Ask(1)).await.is_err());
    assert_eq!(olds.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_is_an_event_and_a_dropped_one_drops_its_call() {
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let ear = heard.clone();
    let observed = config(1.0).observer(move |layer: Name, event: &Event| {
        ear.lock().unwrap().push((layer.as_str(), event.clone()));
    });
    let ((old, olds), (new, _news)) = (Scripted::new(), Scripted::new());
    let split = Split::new(old, open_circuit().layer(new), observed).unwrap();
    let mut split = split.fall_back(FallBack::unsent(["new-side"]));
    olds.then([Step::Held]);
    let mut response = begin(&mut split, Ask(1));
    assert!(is_pending(&mut response));
    assert_eq!(*heard.lock().unwrap(), [("orders", Event::FellBackToOld)]);
    assert_eq!(olds.live(), 1);
    drop(response);
    assert_eq!(olds.live(), 0);
}
