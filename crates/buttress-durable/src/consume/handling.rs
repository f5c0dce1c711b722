//! One attempt: the handler's call, its context and time limit, and the judgement of its result.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use buttress::{Classify, Error, Outcome as Judgement};
use tower::{BoxError, Service};

use super::config::{Config, Unknown};
use super::delivery::Delivery;
use super::letter::Reason;
use super::rejected::Rejected;
use super::state::Outcome;
use crate::caught::{catching, caught, unless};
use crate::causes::{AnyStdError, describe, find};
use crate::event::{DecodeError, UnknownEvent, scope_of};
use crate::instant;
use crate::serves::call;

/// Calls the handler for one attempt. Sets `judged` before it drops a value of the handler or of the classifier,
/// because the drop may panic, and the message is handled nevertheless.
pub(super) async fn handle<H, C>(
    mut handler: H,
    classify: C,
    delivery: Delivery,
    config: Arc<Config>,
    judged: &OnceLock<Outcome>,
) where
    H: Service<Delivery>,
    H::Error: Into<BoxError>,
    C: Classify<H::Response, H::Error>,
{
    let (clock, limit) = (&config.common.clock, config.handler_timeout);
    let deadline = instant::after(clock.now(), limit);
    let (context, cause) = scope_of(delivery.headers());
    // Set once: an earlier outcome stays.
    let set = |outcome| drop(judged.set(outcome));
    let judge = |result| {
        if let Err(panic) = caught(|| judge(result, &classify, config.unknown, set)) {
            set(failed(format!("the classifier {panic}")));
        }
    };
    let called = call(&mut handler, delivery, judge);
    let called = cause.scope(context.with_deadline(deadline).scope(called));
    let mut called = pin!(called);
    let mut called = pin!(catching(called.as_mut()));
    // Boxed, and created when the handler is first pending: many handlers end immediately.
    let mut timer = None;
    let ended = unless(called.as_mut(), |cx| {
        let timer = timer.get_or_insert_with(|| Box::pin(clock.sleep_until(deadline)));
        timer.as_mut().poll(cx)
    });
    match ended.await {
        Err(()) => set(failed(format!("the handler did not end within {limit:?}"))),
        Ok(Err(panic)) => set(failed(format!("the handler {panic}"))),
        Ok(Ok(())) => {}
    }
}

/// A failure that uses up an attempt.
pub(super) fn failed(error: String) -> Outcome {
    Outcome::Failed { error, counts: true, hint: None }
}

/// Judges a result, calls `set` with the outcome, and drops the result.
fn judge<T, E: Into<BoxError>>(
    result: Result<T, E>,
    classify: &impl Classify<T, E>,
    unknown: Unknown,
    set: impl FnOnce(Outcome),
) {
    let (judged, hint) = (classify.classify(&result), classify.retry_after(&result));
    match (result, judged) {
        (Ok(_response), Judgement::Failure) => {
            set(failed("the classifier judges the response a failure".to_owned()));
        }
        // An error can be a success, e.g. the error of a record that exists already.
        (Ok(_), _) | (Err(_), Judgement::Success) => set(Outcome::Done),
        (Err(error), _) => {
            let error: BoxError = error.into();
            set(outcome_of(&*error, judged == Judgement::Failure, hint, unknown));
        }
    }
}

fn outcome_of(
    error: &AnyStdError,
    counts: bool,
    hint: Option<Duration>,
    unknown: Unknown,
) -> Outcome {
    let text = describe(error);
    if find::<DecodeError>(error).is_some() {
        return Outcome::Dead { reason: Reason::Undecodable, error: text };
    }
    if find::<Rejected>(error).is_some() {
        return Outcome::Dead { reason: Reason::Rejected, error: text };
    }
    if find::<UnknownEvent>(error).is_some() {
        match unknown {
            Unknown::Ack => return Outcome::Done,
            Unknown::Dead => return Outcome::Dead { reason: Reason::Unknown, error: text },
            Unknown::Again => {}
        }
    }
    let hint = hint.or_else(|| find::<Error>(error).and_then(Error::retry_after));
    Outcome::Failed { error: text, counts, hint }
}
