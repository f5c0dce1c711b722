//! One attempt of an action or an undo: the call, its time limit, and its panics.

use std::any::Any;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use buttress::Clock;
use tower::{BoxError, Service};

use crate::caught::{catching, caught, unless};
use crate::saga::define::rules::Hint;
use crate::saga::run::bond::Bond;
use crate::saga::run::call::{Call, Contact, StepKey};
use crate::saga::run::lease::Permit;
use crate::serves;

/// The output of a step, of any type.
pub(in crate::saga) type Output = Arc<dyn Any + Send + Sync>;

/// How one attempt ended.
#[derive(Debug)]
pub(in crate::saga) enum Attempt {
    Done(Output),
    /// The attempt certainly had no effect.
    Failed(Failure),
    /// It is unknown whether the attempt had an effect.
    InDoubt(Failure),
    /// The child saga of the step is stuck. The step stays in progress.
    Stuck(Failure),
    /// The attempt did not start, because this worker's lease had lapsed. `doubt`: whether earlier
    /// attempts, of this execution or of others, may have had an effect.
    Lapsed {
        doubt: bool,
    },
}

/// Why an attempt was not done.
#[derive(Debug)]
pub(in crate::saga) struct Failure {
    pub why: String,
    /// How long the failure asks to wait before the next attempt.
    pub hint: Option<Duration>,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, hint: None }
    }
}

pub(in crate::saga) type AttemptFuture = Pin<Box<dyn Future<Output = Attempt> + Send>>;

/// The conditions that the saga sets for an attempt.
#[derive(Clone, Debug)]
pub(in crate::saga) struct Terms {
    pub key: StepKey,
    /// When the attempt is cut short, and why.
    pub cut: Option<Cut>,
    pub clock: Clock,
    /// Whether an execution before this one may have had an effect.
    pub doubt: bool,
    /// The permit under which the attempt may call the service.
    pub permit: Permit,
    /// Reads the hint of an error.
    pub hint: Option<Hint>,
    /// The bond with the parent, if the step runs a child saga.
    pub bond: Option<Arc<Bond>>,
}

/// When an attempt is cut short, and the text of its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::saga) struct Cut {
    pub at: Instant,
    pub why: &'static str,
}

/// The text of an attempt that exceeded the limit of its step.
const NO_ANSWER: &str = "no answer in time";

/// The text of steps that end, and of sagas that unwind, at the deadline.
pub(in crate::saga) const DEADLINE: &str = "deadline passed";

impl Cut {
    /// Returns the earlier of a step's limit and its saga's deadline. If both are equal, the
    /// deadline counts, because the saga unwinds for it.
    pub(in crate::saga) fn earlier(
        limit: Option<Instant>,
        deadline: Option<Instant>,
    ) -> Option<Self> {
        let limit = limit.map(|at| Self { at, why: NO_ANSWER });
        let deadline = deadline.map(|at| Self { at, why: DEADLINE });
        match (limit, deadline) {
            (Some(limit), Some(deadline)) if limit.at < deadline.at => Some(limit),
            (limit, deadline) => deadline.or(limit),
        }
    }
}

/// The service of a step, with the user's layers.
pub(in crate::saga) trait Participant<R>:
    Service<Call<R>, Response: Send + Sync + 'static, Error: Into<BoxError>, Future: Send + 'static>
    + Send
    + 'static
{
}

impl<S, R> Participant<R> for S where
    S: Service<
            Call<R>,
            Response: Send + Sync + 'static,
            Error: Into<BoxError>,
            Future: Send + 'static,
        > + Send
        + 'static
{
}

/// Calls `service` with the request that `make` makes.
pub(in crate::saga) fn attempt<S, R>(
    service: S,
    make: impl FnOnce() -> Option<R>,
    terms: Terms,
) -> AttemptFuture
where
    S: Participant<R>,
    R: Send + 'static,
{
    // `make` is user code. No call has reached the service yet.
    let request = match caught(make) {
        Ok(Some(request)) => request,
        Ok(None) => {
            return not_made(terms.doubt, "an output that the step needs is missing".to_owned());
        }
        Err(why) => return not_made(terms.doubt, format!("making its request {why}")),
    };
    let contact = Arc::new(Contact::new(terms.doubt, terms.permit.clone()));
    let call = Call::new(request, terms.key, contact.clone());
    Box::pin(run(service, call, contact, terms))
}

/// Returns an attempt that ended before it called the service.
pub(in crate::saga) fn not_made(doubt: bool, why: String) -> AttemptFuture {
    let why = Failure::from(why);
    let ended = if doubt { Attempt::InDoubt(why) } else { Attempt::Failed(why) };
    Box::pin(std::future::ready(ended))
}

/// How the call of one attempt ended.
enum End<T> {
    Answer(T),
    Error(Failure),
    Panic(String),
    Late(&'static str),
    Lapsed,
}

async fn run<S, R>(service: S, call: Call<R>, contact: Arc<Contact>, terms: Terms) -> Attempt
where
    S: Participant<R>,
    R: Send + 'static,
{
    let end = Mutex::new(None);
    let attempting = answer(service, call, &contact, &terms, &end);
    // Errors, futures and the service may panic when they are dropped. The answer stands.
    let panic = catching(pin!(attempting)).await.err();
    let end = end.into_inner().unwrap_or_else(PoisonError::into_inner);
    let end = end.unwrap_or_else(|| End::Panic(panic.unwrap_or_default()));
    let (failure, definite) = match end {
        End::Answer(output) => return Attempt::Done(Arc::new(output)),
        End::Lapsed => return Attempt::Lapsed { doubt: !contact.is_definite() },
        End::Error(failure) => (failure, contact.is_definite()),
        End::Late(why) => (Failure::from(why.to_owned()), contact.is_definite()),
        // A refusal says nothing about the other effects of a service that panics.
        End::Panic(why) => (Failure::from(why), contact.is_definite() && !contact.has_left()),
    };
    if definite { Attempt::Failed(failure) } else { Attempt::InDoubt(failure) }
}

/// Calls the service once. Sets `end` before it drops a value of the service.
async fn answer<S, R>(
    mut service: S,
    call: Call<R>,
    contact: &Contact,
    terms: &Terms,
    end: &Mutex<Option<End<S::Response>>>,
) where
    S: Participant<R>,
    R: Send + 'static,
{
    // An earlier end stays.
    let set = |ended| {
        end.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(ended);
    };
    let mut called = pin!(serves::call(&mut service, call, |result| match result {
        Ok(output) => set(End::Answer(output)),
        Err(error) => {
            let error: BoxError = error.into();
            let hint = Hint::read(terms.hint.as_ref(), &error);
            // Its `Display` is user code.
            let why = caught(|| error.to_string());
            set(why.map_or_else(End::Panic, |why| End::Error(Failure { why, hint })));
            // Separately, because a panic during another panic would end the process.
            let _drop = caught(|| drop(error));
        }
    }));
    // Boxed: most steps have no limit, and a timer would be most of this future.
    let mut sleep = terms.cut.map(|cut| (Box::pin(terms.clock.sleep_until(cut.at)), cut.why));
    let mut called = pin!(catching(called.as_mut()));
    let ended = unless(called.as_mut(), |cx| {
        if contact.has_lapsed(cx) {
            return Poll::Ready(End::Lapsed);
        }
        match sleep.as_mut().map(|(sleep, why)| (sleep.as_mut().poll(cx), *why)) {
            Some((Poll::Ready(()), why)) => Poll::Ready(End::Late(why)),
            // The waker is with the call, with the contact, and with the timer if there is one.
            _ => Poll::Pending,
        }
    });
    match ended.await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => set(End::Panic(why)),
        Err(end) => set(end),
    }
}
