//! One delivery: the publisher's call, its time limit, and the verdict on its result.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use buttress::{Classify, Error, Outcome};
use tower::{BoxError, Service};

use super::config::Config;
use super::message::Message;
use super::state::verdict::{Failure, Limits};
use super::store::Verdict;
use crate::caught::{catching, caught, unless};
use crate::causes::describe;
use crate::serves::call;

const PANICKED: &str = "the publisher panicked";

/// Whether the publisher has taken a message, or why not.
type Judgement = Result<(), Failure>;

/// Publishes a message, and returns the verdict. `refusals` is how many waits of the relay in a row have ended with
/// failures that do not count. No panic of the publisher or the classifier gets out.
pub(super) async fn deliver<P, C>(
    publisher: P,
    classify: C,
    message: Message,
    config: Arc<Config>,
    refusals: u32,
) -> Verdict
where
    P: Service<Message>,
    P::Error: Into<BoxError>,
    C: Classify<P::Response, P::Error>,
{
    let (attempts, judged) = (message.attempts, OnceLock::new());
    let attempting = attempt(publisher, classify, message, &config, &judged);
    // Responses, errors and futures of the publisher may panic when they are dropped.
    let _panic = catching(pin!(attempting)).await;
    let judged = judged.into_inner().unwrap_or_else(|| Err(Failure::counted(PANICKED)));
    match judged {
        Ok(()) => Verdict::Delivered,
        Err(failure) => failed(attempts, refusals, failure, &config),
    }
}

/// Returns the verdict on a message whose publisher panicked before its call, after `attempts` earlier ones.
pub(super) fn panicked(attempts: u32, config: &Config) -> Verdict {
    failed(attempts, 0, Failure::counted(PANICKED), config)
}

/// Calls the publisher once. Sets `judged` before it drops a value of the publisher or of the classifier, because the
/// drop may panic, and the message is published nevertheless.
async fn attempt<P, C>(
    mut publisher: P,
    classify: C,
    message: Message,
    config: &Config,
    judged: &OnceLock<Judgement>,
) where
    P: Service<Message>,
    P::Error: Into<BoxError>,
    C: Classify<P::Response, P::Error>,
{
    let limit = config.publish_timeout;
    let started = config.common.clock.now();
    // Set once: an earlier judgement stays.
    let set = |judgement| drop(judged.set(judgement));
    let mut called = pin!(call(&mut publisher, message, |result| {
        // The classifier is user code. Its panic must not end the relay and all of its deliveries.
        if caught(|| judge(result, &classify, set)).is_err() {
            set(Err(Failure::counted("the classifier panicked")));
        }
    }));
    let mut called = pin!(catching(called.as_mut()));
    // Created when the publisher is first pending: most publishers take a message immediately or
    // need long.
    let mut sleep = pin!(None);
    let ended = unless(called.as_mut(), |cx| {
        if sleep.is_none() {
            sleep.set(Some(config.common.clock.sleep_until(crate::instant::after(started, limit))));
        }
        match sleep.as_mut().as_pin_mut() {
            Some(sleep) => sleep.poll(cx),
            None => Poll::Pending,
        }
    });
    match ended.await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => set(Err(Failure::counted(PANICKED))),
        Err(()) => {
            let why = format!("the publisher did not take the message within {limit:?}");
            set(Err(Failure::counted(why)));
        }
    }
}

/// Judges a result, calls `set` with the judgement, and drops the result.
fn judge<T, E: Into<BoxError>>(
    result: Result<T, E>,
    classify: &impl Classify<T, E>,
    set: impl FnOnce(Judgement),
) {
    let outcome = classify.classify(&result);
    let hint = classify.retry_after(&result);
    match (outcome, result) {
        // An error that the classifier ignores still means that the publisher did not take the
        // message.
        (Outcome::Success, _result) => set(Ok(())),
        (Outcome::Ignored, Ok(_response)) => set(Ok(())),
        (Outcome::Failure, Ok(_response)) => set(Err(Failure {
            error: "the classifier judges the response a failure".to_owned(),
            counts: true,
            hint,
        })),
        (outcome, Err(error)) => {
            let error: BoxError = error.into();
            let refusal = error.downcast_ref::<Error>().and_then(Error::retry_after);
            let counts = outcome == Outcome::Failure;
            set(Err(Failure { error: describe(&*error), counts, hint: hint.or(refusal) }));
        }
    }
}

/// `refusals` is how many waits of the relay in a row have ended with failures that do not count.
fn failed(before: u32, refusals: u32, failure: Failure, config: &Config) -> Verdict {
    let refusals = if failure.counts { 0 } else { refusals };
    Limits::of(config).after_failure(before, failure, |attempts| {
        // The last wait is unknown after a restart. Decorrelated jitter then begins from its start.
        let waits = attempts.saturating_sub(1).saturating_add(refusals);
        config.backoff.delay(waits, Duration::ZERO, &config.common.rng)
    })
}
