//! Fallback: the answers to failed calls, and the result if the fallback fails too.

use std::sync::{Arc, Mutex};

use buttress::fallback::{Config, FallbackLayer};
use buttress::{Clock, Event, Name, Outcome, classify_fn};
use tower::Layer;

use crate::support::{
    AppError, Ask, Scripted, Step, Waiter, Watch, begin, behind, call, is_pending, ms, now,
    panic_of,
};

const BROKEN: AppError = AppError::Broken("scripted failure");

fn failing() -> Scripted {
    let (inner, log) = Scripted::new();
    log.always(Step::Fail);
    inner
}

#[tokio::test(start_paused = true)]
async fn a_value_answers_a_failure_and_nothing_else() {
    let layer = FallbackLayer::value(99u32).config(Config::new().count_calls(true));
    let (mut service, _) = behind(&layer, [Step::Answer, Step::Fail]);
    assert_eq!(now(begin(&mut service, Ask(0))), Ok(1));
    assert_eq!(now(begin(&mut service, Ask(0))), Ok(99));
    let stats = layer.handle().stats();
    assert_eq!((stats.used, stats.failed, stats.calls), (1, 0, Some(2)));
}

#[tokio::test(start_paused = true)]
async fn a_function_makes_the_answer_of_the_error() {
    let layer = FallbackLayer::from_error(|error: AppError| error.to_string().len() as u32);
    let answer = now(begin(&mut layer.layer(failing()), Ask(0)));
    assert_eq!(answer, Ok("scripted failure".len() as u32));
}

#[tokio::test(start_paused = true)]
async fn an_async_function_makes_it_of_request_and_error() {
    let layer = FallbackLayer::from_request(async |request: Ask, error: AppError| {
        assert_eq!(error, BROKEN);
        Clock::default().sleep(ms(50)).await;
        Ok(request.0 * 2)
    });
    let watch = Watch::start();
    assert_eq!(call(&mut layer.layer(failing()), Ask(21)).await, Ok(42));
    assert_eq!(watch.ms(), 50);
}

#[tokio::test(start_paused = true)]
async fn the_error_of_an_async_function_is_the_callers() {
    let layer = FallbackLayer::from_request(async |_: Ask, _: AppError| {
        Err::<u32, _>(AppError::Broken("no cache"))
    });
    let mut service = layer.layer(failing());
    assert_eq!(now(begin(&mut service, Ask(0))), Err(AppError::Broken("no cache")));
    let stats = layer.handle().stats();
    assert_eq!((stats.used, stats.failed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn another_service_answers_once_it_is_ready() {
    let (second, log) = Scripted::new();
    let mut service = FallbackLayer::service(second).layer(failing());
    log.block();
    let waiter = Waiter::new();
    let mut response = begin(&mut service, Ask(0));
    assert!(waiter.poll(&mut response).is_pending());
    tokio::time::advance(ms(30)).await;
    assert_eq!((waiter.wakes(), log.calls()), (0, 0));
    log.unblock();
    assert_eq!(waiter.wakes(), 1);
    assert_eq!(now(response), Ok(1));
    assert_eq!(log.at(), [30]);
}

#[tokio::test(start_paused = true)]
async fn when_both_fail_the_first_failure_is_returned_unchanged() {
    for unready in [false, true] {
        let (second, log) = Scripted::new();
        log.always(Step::PanicAtPoll(9)).then([Step::Fail]);
        if unready {
            log.fail_ready();
        }
        let inner = tower::service_fn(async |_: Ask| Err::<u32, _>(AppError::Broken("first")));
        let layer = FallbackLayer::service(second);
        let answer = now(begin(&mut layer.layer(inner), Ask(0)));
        assert_eq!(answer, Err(AppError::Broken("first")));
        assert_eq!((layer.handle().stats().used, layer.handle().stats().failed), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn both_failures_can_be_merged() {
    let second = tower::service_fn(async |_: Ask| Err::<u32, _>("no cache"));
    let layer = FallbackLayer::service(second).on_both_failed(
        |first: Result<u32, AppError>, second: &'static str| {
            assert_eq!(first, Err(BROKEN));
            Err(AppError::Broken(second))
        },
    );
    let answer = now(begin(&mut layer.layer(failing()), Ask(0)));
    assert_eq!(answer, Err(AppError::Broken("no cache")), "of another error type, too");
}

#[tokio::test(start_paused = true)]
async fn a_predicate_says_which_errors_it_is_for() {
    for (wanted, answer) in [("scripted failure", Ok(99)), ("another", Err(BROKEN))] {
        let layer = FallbackLayer::value(99u32)
            .when(move |error: &AppError| *error == AppError::Broken(wanted));
        assert_eq!(now(begin(&mut layer.layer(failing()), Ask(0))), answer);
        assert_eq!(layer.handle().stats().used, u64::from(answer.is_ok()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_response_can_be_replaced() {
    let first_is_bad = || {
        classify_fn(|result: &Result<u32, AppError>| match result {
            Ok(1) | Err(_) => Outcome::Failure,
            Ok(_) => Outcome::Success,
        })
    };
    let (inner, _log) = Scripted::new();
    let layer = FallbackLayer::value(99u32).classify(first_is_bad());
    let mut service = layer.layer(inner);
    assert_eq!(now(begin(&mut service, Ask(0))), Ok(99));
    assert_eq!(now(begin(&mut service, Ask(0))), Ok(2));
    // A function of the error needs an error.
    let (inner, _log) = Scripted::new();
    let layer = FallbackLayer::from_error(|_: AppError| 99u32).classify(first_is_bad());
    assert_eq!(now(begin(&mut layer.layer(inner), Ask(0))), Ok(1));
    assert_eq!(layer.handle().stats().used, 0);
}

/// A body that can be read once.
#[derive(Debug, PartialEq)]
struct Stream(&'static str);

#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_clone_works_with_functions_and_services() {
    let fails = || tower::service_fn(async |_: Ask| Err::<Stream, _>(BROKEN));
    let from_error = FallbackLayer::from_error(|_: AppError| Stream("error"));
    assert_eq!(now(begin(&mut from_error.layer(fails()), Ask(0))), Ok(Stream("error")));
    let from_request =
        FallbackLayer::from_request(async |_: Ask, _: AppError| Ok(Stream("request")));
    assert_eq!(now(begin(&mut from_request.layer(fails()), Ask(0))), Ok(Stream("request")));
    let cache = tower::service_fn(async |_: Ask| Ok::<_, AppError>(Stream("service")));
    let service = FallbackLayer::service(cache);
    assert_eq!(now(begin(&mut service.layer(fails()), Ask(0))), Ok(Stream("service")));
}

#[tokio::test(start_paused = true)]
async fn the_primary_call_is_gone_while_the_fallback_answers() {
    let (inner, primary) = Scripted::new();
    primary.always(Step::Fail);
    let (second, log) = Scripted::new();
    log.always(Step::Held);
    let mut response = begin(&mut FallbackLayer::service(second).layer(inner), Ask(0));
    assert!(is_pending(&mut response));
    assert_eq!((primary.live(), log.live()), (0, 1));
    drop(response);
    assert_eq!(log.live(), 0, "dropped, it drops the fallback");
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_fallback_is_not_swallowed() {
    let layer = FallbackLayer::from_error(|_: AppError| -> u32 { panic!("in the fallback") });
    let mut service = layer.layer(failing());
    let text = panic_of(|| is_pending(&mut begin(&mut service, Ask(0))));
    assert_eq!(text, "in the fallback");
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_told() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let observer = heard.clone();
    let observer = move |name: Name, event: &Event| {
        observer.lock().unwrap().push((name.to_string(), event.clone()));
    };
    let (second, log) = Scripted::new();
    log.then([Step::Answer, Step::Fail]);
    let config = Config::new().name("cache").observer(observer);
    let mut service = FallbackLayer::service(second).config(config).layer(failing());
    assert!(now(begin(&mut service, Ask(0))).is_ok());
    assert!(now(begin(&mut service, Ask(0))).is_err());
    let told: Vec<_> = heard.lock().unwrap().drain(..).collect();
    let cache = |event| ("cache".to_owned(), event);
    assert_eq!(
        told,
        [cache(Event::FellBack), cache(Event::FellBack), cache(Event::FallbackFailed)]
    );
}
