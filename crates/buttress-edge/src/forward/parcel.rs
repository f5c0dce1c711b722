//! [`Parcel`]: a request of a route with two sides, or with a mirror.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress::retry::CloneRequest;
use buttress::split::{Ending, FallBack, Judge, Split};
use buttress::{Classify, Outcome};
use buttress_http::ByStatus;
use buttress_http::shadow::X_SHADOW;
use http::{HeaderValue, Method, Response};
use tower::Service;

use super::compared::Compared;
use super::round::{is_unseen, may_repeat};
use super::{Forwarder, Head, Outgoing, Sending, Stream};
use crate::answer::Failed;
use crate::headers::named::OfCallers;
use crate::route::{Backends, Wish};
use crate::route_limits::{OfBackends, OfSide, Passed};
use crate::upstream::Upstream;

/// A request that chooses between the sides of its route, or that is mirrored. Clones are the same request.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    forwarder: Arc<Forwarder>,
    route: Arc<Backends>,
    wish: Wish,
    head: Head,
    body: Outgoing,
    /// The fields with credentials, if a copy goes without them.
    withheld: Option<Arc<OfCallers>>,
}

type Sent = Pin<Box<dyn Future<Output = Result<Response<Stream>, Failed>> + Send>>;

impl Parcel {
    pub(crate) fn new(
        forwarder: &Arc<Forwarder>,
        route: Arc<Backends>,
        wish: Wish,
        head: Head,
        body: Outgoing,
    ) -> Self {
        Self { forwarder: Arc::clone(forwarder), route, wish, head, body, withheld: None }
    }

    /// Withholds the credentials of the request from its copy, unless the route says otherwise.
    pub(crate) fn withhold(mut self, of_callers: &Arc<OfCallers>) -> Self {
        if self.route.shadow.as_ref().is_some_and(|shadow| !shadow.forward_credentials) {
            self.withheld = Some(Arc::clone(of_callers));
        }
        self
    }

    /// Sends the request to its side, and perhaps a copy to the mirror.
    pub(crate) fn deliver(self) -> Sent {
        match &self.route.shadow {
            Some(shadow) => {
                let rules = Arc::clone(&shadow.comparing);
                let clock = self.forwarder.clock.clone();
                let compared = Compared { rules, clock, is_head: self.head.method == Method::HEAD };
                Box::pin(shadow.mirrored.clone().compare(compared).call(self))
            }
            None => self.divide(),
        }
    }

    /// Sends the request to its side.
    fn divide(self) -> Sent {
        let Some(sides) = &self.route.split else { return self.send(Side::Old) };
        let split = Split::with_handle(Side::Old, Side::New, &sides.handle)
            .stick_by(|parcel: &Self| parcel.wish.key)
            .force(|parcel: &Self| parcel.wish.forced);
        if !sides.falls_back {
            let mut split = split;
            return Box::pin(split.call(self));
        }
        let rule = FallBack::unsent([""; 0])
            .copy(Unread)
            .judge(ByAnswer)
            .idempotent(|parcel: &Self| parcel.may_repeat());
        Box::pin(split.fall_back(rule).call(self))
    }

    fn may_repeat(&self) -> bool {
        may_repeat(&self.head.method, &self.head.headers, self.route.sending.honours_keys)
    }

    fn send(self, side: Side) -> Sent {
        let Self { forwarder, route, head, body, .. } = self;
        let sides = match (side, &route.split) {
            (Side::New, Some(sides)) => sides,
            _ => return Box::pin(forwarder.send(&route.sending, head, body, None)),
        };
        let passed = Passed::at_circuit(sides.circuit.as_ref(), &forwarder.clock, forwarder.head);
        let mut passed = match passed {
            Ok(passed) => passed,
            Err(failed) => return Box::pin(std::future::ready(Err(failed))),
        };
        let clock = forwarder.clock.clone();
        let progress = body.clone();
        let sent = forwarder.send(&sides.sending, head, body, None);
        Box::pin(async move {
            let result = passed.watch(pin!(sent), Some(&progress), &clock).await;
            passed.judge_by(OfSide, &result, Some(&progress), &clock);
            result
        })
    }
}

/// A side of a route, as a service.
#[derive(Clone, Copy, Debug)]
enum Side {
    Old,
    New,
}

/// Makes a type a service of parcels, which is always ready. Its method `send` sends one.
macro_rules! carries {
    ($($Carrier:ty: $send:expr,)+) => {
        $(impl Service<Parcel> for $Carrier {
            type Response = Response<Stream>;
            type Error = Failed;
            type Future = Sent;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, parcel: Parcel) -> Sent {
                $send(self, parcel)
            }
        })+
    };
}

carries! {
    Side: |side: &Side, parcel: Parcel| parcel.send(*side),
    Primary: |_: &Primary, parcel: Parcel| parcel.divide(),
    Mirror: |mirror: &Mirror, parcel: Parcel| mirror.send(parcel),
}

/// The backends of a route with a mirror.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Primary;

/// The backends that get copies.
#[derive(Clone, Debug)]
pub(crate) struct Mirror(Arc<Sending>);

impl Mirror {
    pub(crate) fn new(upstream: Upstream) -> Self {
        let upstream = Arc::new(upstream);
        let sending = Sending { upstream, again: None, replay_buffer: 0, honours_keys: false };
        Self(Arc::new(sending))
    }

    fn send(&self, parcel: Parcel) -> Sent {
        let Parcel { forwarder, head, .. } = parcel;
        Box::pin(forwarder.send(&self.0, head, Outgoing::empty(), None))
    }
}

/// Copies a request whose body no side has read.
#[derive(Clone, Copy, Debug)]
struct Unread;

impl CloneRequest<Parcel> for Unread {
    fn clone_request(&self, parcel: &Parcel) -> Option<Parcel> {
        Some(parcel.clone())
    }

    fn is_repeatable(&self, copy: &Parcel) -> bool {
        // A request that may not be repeated, and whose last attempt was not seen, had no earlier one that was: a retry
        // makes no attempt after one that was seen.
        copy.body.is_unread()
    }
}

/// Copies the requests that may be mirrored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SafeParcels;

impl SafeParcels {
    /// Whether requests with a method may be mirrored.
    pub(crate) fn copies(method: &Method) -> bool {
        matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
    }
}

impl CloneRequest<Parcel> for SafeParcels {
    fn clone_request(&self, parcel: &Parcel) -> Option<Parcel> {
        let Head { method, upgrades, .. } = &parcel.head;
        if !Self::copies(method) || *upgrades || !parcel.body.is_empty() {
            return None;
        }
        let mut copy = parcel.clone();
        if let Some(of_callers) = &copy.withheld {
            of_callers.withhold_credentials(&mut copy.head.headers);
        }
        copy.head.headers.insert(X_SHADOW, HeaderValue::from_static("1"));
        Some(copy)
    }
}

/// Judges whether a side answered, failed, or never had the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByAnswer;

impl Judge<Response<Stream>, Failed> for ByAnswer {
    fn judge(&self, result: &Result<Response<Stream>, Failed>) -> Ending {
        if result.as_ref().is_err_and(is_unseen) {
            return Ending::Unsent;
        }
        match ByStatus::route().errors(OfBackends).classify(result) {
            Outcome::Failure => Ending::Failed,
            // A failure of the client says nothing about the side, and stands.
            _ => Ending::Answered,
        }
    }
}
