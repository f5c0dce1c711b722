//! One attempt of an action or an undo: the call, its time limit, and what a panic means.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tower::{BoxError, Service};

use super::call::{Call, Contact, StepKey};
use crate::clock::Clock;

/// The output of a step, of whatever type.
pub(super) type Output = Arc<dyn Any + Send + Sync>;

/// How one attempt ended.
#[derive(Debug)]
pub(super) enum Attempt {
    Done(Output),
    /// It certainly had no effect.
    Failed(String),
    /// Nobody knows whether it had one.
    InDoubt(String),
}

pub(super) type AttemptFuture = Pin<Box<dyn Future<Output = Attempt> + Send>>;

/// What an attempt is told by the saga.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) key: StepKey,
    /// When it is cut short.
    pub(super) deadline: Option<Instant>,
    pub(super) clock: Clock,
}

/// Calls `service` with the request that `make` makes.
pub(super) fn attempt<S, R>(
    service: S,
    make: impl FnOnce() -> Option<R>,
    terms: Terms,
) -> AttemptFuture
where
    S: Service<Call<R>> + Send + 'static,
    S::Response: Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    R: Send + 'static,
{
    // The user's function; nothing has left yet, so its panic is a definite failure.
    let request = match catch_unwind(AssertUnwindSafe(make)) {
        Ok(Some(request)) => request,
        Ok(None) => return fail("an output it needs is missing".to_owned()),
        Err(panic) => return fail(format!("making its request panicked: {}", text(&*panic))),
    };
    let contact = Arc::new(Contact::default());
    let call = Call::new(request, terms.key, contact.clone());
    Box::pin(run(service, call, contact, terms))
}

fn fail(why: String) -> AttemptFuture {
    Box::pin(std::future::ready(Attempt::Failed(why)))
}

async fn run<S, R>(mut service: S, call: Call<R>, contact: Arc<Contact>, terms: Terms) -> Attempt
where
    S: Service<Call<R>> + Send + 'static,
    S::Response: Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    R: Send + 'static,
{
    let called = async {
        poll_fn(|cx| service.poll_ready(cx)).await?;
        service.call(call).await
    };
    let mut called = pin!(called);
    // Boxed: most steps have no limit, and a timer would be most of this future.
    let mut sleep = terms.deadline.map(|deadline| Box::pin(terms.clock.sleep_until(deadline)));
    let ended = poll_fn(|cx| {
        // The call first, so that an answer that is there at the deadline wins.
        match catch_unwind(AssertUnwindSafe(|| called.as_mut().poll(cx))) {
            Ok(Poll::Ready(result)) => {
                return Poll::Ready(result.map_err(|error| error.into().to_string()));
            }
            Ok(Poll::Pending) => {}
            Err(panic) => return Poll::Ready(Err(format!("panicked: {}", text(&*panic)))),
        }
        match sleep.as_mut().map(|sleep| sleep.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Err("no answer in time".to_owned())),
            _ => Poll::Pending,
        }
    });
    match ended.await {
        Ok(output) => Attempt::Done(Arc::new(output)),
        Err(why) if contact.is_definite() => Attempt::Failed(why),
        Err(why) => Attempt::InDoubt(why),
    }
}

/// What a panic said.
fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
