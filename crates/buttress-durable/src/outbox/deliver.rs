//! One delivery: the publisher's call, its time limit, and the verdict on its result.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use buttress::{Classify, Error, Outcome};
use tower::{BoxError, Service};

use super::config::Config;
use super::message::Message;
use super::state::Delivery;
use super::state::verdict::{Failure, Limits};
use super::store::{Lease, Verdict};
use crate::caught::{catching, caught, unless};

/// A delivery that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) delivery: Delivery,
    pub(super) lease: Lease,
    pub(super) verdict: Verdict,
}

const PANICKED: &str = "the publisher panicked";

pub(super) async fn deliver<P, C>(
    mut publisher: P,
    classify: C,
    message: Message,
    lease: Lease,
    config: Arc<Config>,
) -> Finished
where
    P: Service<Message>,
    P::Error: Into<BoxError>,
    C: Classify<P::Response, P::Error>,
{
    let delivery = Delivery::of(&message);
    let published = async {
        poll_fn(|cx| publisher.poll_ready(cx)).await?;
        publisher.call(message).await
    };
    let ended = limited(published, &config).await;
    let judged = ended.and_then(|result| {
        // The classifier is user code. Its panic must not end the relay and all of its deliveries.
        caught(|| judge(result, &classify))
            .unwrap_or_else(|_| Err(Failure::counted("the classifier panicked")))
    });
    let verdict = match judged {
        Ok(()) => Verdict::Delivered,
        Err(failure) => failed(&delivery, failure, &config),
    };
    Finished { delivery, lease, verdict }
}

/// Returns the verdict on a message whose publisher panicked before its call.
pub(super) fn panicked(delivery: &Delivery, config: &Config) -> Verdict {
    failed(delivery, Failure::counted(PANICKED), config)
}

/// Returns the result of `future`, unless the future takes too long or panics.
async fn limited<T>(future: impl Future<Output = T>, config: &Config) -> Result<T, Failure> {
    let mut future = pin!(future);
    let mut called = pin!(catching(future.as_mut()));
    // Created when the publisher is first pending: most publishers take a message immediately or
    // need long.
    let mut sleep = pin!(None);
    let limit = config.publish_timeout;
    let started = config.clock.now();
    let ended = unless(called.as_mut(), |cx| {
        if sleep.is_none() {
            sleep.set(Some(config.clock.sleep_until(crate::instant::after(started, limit))));
        }
        match sleep.as_mut().as_pin_mut() {
            Some(sleep) => sleep.poll(cx),
            None => Poll::Pending,
        }
    });
    match ended.await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(_)) => Err(Failure::counted(PANICKED)),
        Err(()) => {
            let why = format!("the publisher did not take the message within {limit:?}");
            Err(Failure::counted(why))
        }
    }
}

fn judge<T, E: Into<BoxError>>(
    result: Result<T, E>,
    classify: &impl Classify<T, E>,
) -> Result<(), Failure> {
    let outcome = classify.classify(&result);
    let hint = classify.retry_after(&result);
    match (outcome, result) {
        // An error that the classifier ignores still means that the publisher did not take the
        // message.
        (Outcome::Success, _) | (Outcome::Ignored, Ok(_)) => Ok(()),
        (Outcome::Failure, Ok(_)) => Err(Failure {
            error: "the classifier judges the response a failure".to_owned(),
            counts: true,
            hint,
        }),
        (outcome, Err(error)) => {
            let error: BoxError = error.into();
            let refusal = error.downcast_ref::<Error>().and_then(Error::retry_after);
            let counts = outcome == Outcome::Failure;
            Err(Failure { error: error.to_string(), counts, hint: hint.or(refusal) })
        }
    }
}

fn failed(delivery: &Delivery, failure: Failure, config: &Config) -> Verdict {
    Limits::of(config).after_failure(delivery.attempts, failure, |attempts| {
        // The last wait is unknown after a restart. Decorrelated jitter then begins from its start.
        config.backoff.delay(attempts.saturating_sub(1), Duration::ZERO, &config.rng)
    })
}
