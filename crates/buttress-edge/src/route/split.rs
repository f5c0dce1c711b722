//! [`RouteSplit`]: a new set of backends that gets a share of a route's requests.

use buttress::__setters as setters;
use buttress::split::{Handle, Side, key};
use buttress::{InvalidConfig, circuit_breaker};
use http::{HeaderMap, HeaderName};

use crate::caller::Subject;
use crate::upstream::Upstream;

/// A new set of backends that gets a share of the requests of a route, for [`Route::split`](crate::Route::split).
///
/// The backends of [`Route::to`](crate::Route::to) are the old side. A request with all its attempts goes to one side.
/// The [handle](Handle) has the share, which operators change while the proxy runs, and the numbers of both sides. The
/// page [`guide::strangler`](crate::guide::strangler) replaces a service step by step.
///
/// ```
/// use std::time::Duration;
/// use buttress::split::{Config, Handle};
/// use buttress_edge::{Route, RouteSplit, Upstream};
///
/// let share = Handle::new(&Config::new().name("orders"))?;
/// let new = Upstream::fixed(["http://10.0.0.9:8001"])?;
/// let orders = Route::new("orders")
///     .to(Upstream::fixed(["http://10.0.0.1:8001"])?)
///     .split(RouteSplit::new(new, &share).stick_by_header("x-customer").fall_back())
///     .public();
/// // Later, and live:
/// share.share(0.05)?;
/// share.ramp_to(1.0, Duration::from_secs(3600))?;
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RouteSplit {
    pub(crate) upstream: Upstream,
    pub(crate) handle: Handle,
    stick: Option<StickBy>,
    force: Option<String>,
    pub(crate) falls_back: bool,
    pub(crate) circuit: Option<circuit_breaker::Handle>,
}

#[derive(Clone, Debug)]
enum StickBy {
    Subject,
    Header(String),
}

impl RouteSplit {
    /// Creates the new side. Its share is the share of `handle`, which is 0 unless an operator has raised it.
    pub fn new(upstream: Upstream, handle: &Handle) -> Self {
        Self {
            upstream,
            handle: handle.clone(),
            stick: None,
            force: None,
            falls_back: false,
            circuit: None,
        }
    }

    /// Sends all requests of an admitted subject to one side. A request without a subject gets its side at random, as
    /// every request does by default. A public route has no subjects, so it is an error of
    /// [`Proxy::new`](crate::Proxy::new) there.
    pub fn stick_by_subject(mut self) -> Self {
        self.stick = Some(StickBy::Subject);
        self
    }

    setters! {
        /// Sends all requests with the same value of this field to one side. A request without the field, or with two
        /// of them, gets its side at random. Replaces [`stick_by_subject`](Self::stick_by_subject).
        ///
        /// A field that the proxy removes before it chooses is an error of [`Proxy::new`](crate::Proxy::new): a field
        /// of one connection, such as `TE`, and the [identity field](crate::Route::forward_identity) of any route.
        stick_by_header(field: impl Into<String>) sets stick => Some(StickBy::Header(field.into()));

        /// Lets a request choose its side with this field, whose value is `old` or `new`. Other values are ignored.
        /// Default: no request chooses. Every client that can send the field can choose.
        force_by_header(field: impl Into<String>) sets force => Some(field.into());
    }

    /// Lets the old side answer a request that the new side has not seen, because no connection could be made, its
    /// circuit is open, or no backend took it. An idempotent request also falls back after a failure and after a status
    /// that [`RetryableStatus`](buttress_http::RetryableStatus) or a circuit would count as one. Default: never.
    ///
    /// A request does not fall back once its time is over: the [`time_limit`](crate::Route::time_limit) of the route,
    /// or an earlier deadline. So the new side of a route with a time limit has to fail earlier: let
    /// [`head_limit`](crate::Config::head_limit) be below the time limit, or give the new side a
    /// [`circuit_breaker`](Self::circuit_breaker).
    ///
    /// A request whose body was read does not fall back. An `Idempotency-Key` counts if the route says
    /// [`backend_honours_idempotency_keys`](crate::Route::backend_honours_idempotency_keys): both sides must share
    /// their records then.
    pub fn fall_back(mut self) -> Self {
        self.falls_back = true;
        self
    }

    /// Stops requests to the new side while its backends fail together, or none of them takes a request. Default: no
    /// separate circuit breaker. The circuit breaker of the route counts both sides.
    pub fn circuit_breaker(mut self, circuit: circuit_breaker::Handle) -> Self {
        self.circuit = Some(circuit);
        self
    }

    pub(super) fn sticks_by_subject(&self) -> bool {
        matches!(self.stick, Some(StickBy::Subject))
    }

    /// Checks the names of the fields, and returns how the side of a request is found.
    pub(super) fn choice(&self) -> Result<Choice, InvalidConfig> {
        let name = |field: &str, given: &str| {
            given.parse::<HeaderName>().map_err(|_| {
                InvalidConfig::new(
                    format!("split.{field}"),
                    format!("{given:?}"),
                    "the name of a header field",
                )
            })
        };
        Ok(Choice {
            stick: match &self.stick {
                None => Stick::ByChance,
                Some(StickBy::Subject) => Stick::Subject,
                Some(StickBy::Header(given)) => Stick::Header(name("stick-by-header", given)?),
            },
            force: self.force.as_deref().map(|given| name("force-by-header", given)).transpose()?,
        })
    }
}

/// How the side of a request is found.
#[derive(Debug)]
pub(crate) struct Choice {
    stick: Stick,
    force: Option<HeaderName>,
}

#[derive(Debug)]
enum Stick {
    ByChance,
    Subject,
    Header(HeaderName),
}

/// What a request says about its side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub key: Option<u64>,
    pub forced: Option<Side>,
}

impl Choice {
    /// Returns the fields that are read, by their keys.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, &HeaderName)> {
        let stick = match &self.stick {
            Stick::Header(name) => Some(("stick-by-header", name)),
            Stick::ByChance | Stick::Subject => None,
        };
        stick.into_iter().chain(self.force.iter().map(|name| ("force-by-header", name)))
    }

    /// Returns what a request says about its side.
    pub(crate) fn wish(&self, headers: &HeaderMap, subject: Option<&Subject>) -> Wish {
        let only = |name: &HeaderName| {
            let mut values = headers.get_all(name).iter();
            let value = values.next()?;
            if values.next().is_some() { None } else { Some(value.as_bytes()) }
        };
        let side = |name| Side::named(std::str::from_utf8(only(name)?).ok()?);
        Wish {
            key: match &self.stick {
                Stick::ByChance => None,
                Stick::Subject => subject.map(|subject| key(subject.as_str())),
                Stick::Header(name) => only(name).map(key),
            },
            forced: self.force.as_ref().and_then(side),
        }
    }
}
