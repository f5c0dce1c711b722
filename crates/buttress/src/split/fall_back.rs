//! The rules by which the old side answers a request that the new side did not answer.

use std::fmt;

use super::judge::{Ending, Judge, RefusedBy};
use crate::retry::{ByClone, CloneRequest};
use crate::vocabulary::name::Name;

/// Rule by which the old side answers a request that the new side did not. Set by
/// [`Split::fall_back`](super::Split::fall_back).
///
/// A request whose [deadline](crate::context::Context::deadline) has passed does not fall back: its caller does not wait
/// for the old side any more. So give the new side a time limit below the deadline, or a new side that hangs leaves no
/// time for the old one.
///
/// `Q` copies requests, `J` judges results, and `I` finds the requests that may be sent twice.
#[derive(Clone, Copy)]
#[must_use]
pub struct FallBack<Q = ByClone, J = RefusedBy, I = NotIdempotent> {
    copy: Q,
    judge: J,
    idempotent: I,
}

/// No request may be sent twice. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotIdempotent;

impl FallBack {
    /// Falls back only if the new side never had the request: one of `layers` refused the call, or the side failed to
    /// become ready.
    ///
    /// `layers` are the names of the layers around the service of the new side. No other layer of the process may have
    /// these names. The refusal of a layer further in stands, for example of a circuit breaker around a client that the
    /// service calls. The service had the request, and may have done half of its work. The refusals of layers without a
    /// name stand too.
    ///
    /// ```
    /// use buttress::circuit_breaker::{CircuitBreakerLayer, Config};
    /// use buttress::split::FallBack;
    /// let breaker = CircuitBreakerLayer::new(Config::new().name("new-orders"))?;
    /// let rule = FallBack::unsent(["new-orders"]);
    /// # let _ = (breaker, rule);
    /// # Ok::<(), buttress::InvalidConfig>(())
    /// ```
    pub fn unsent<T: Into<Name>>(layers: impl IntoIterator<Item = T>) -> Self {
        Self { copy: ByClone, judge: RefusedBy::new(layers), idempotent: NotIdempotent }
    }
}

impl<Q, J, I> FallBack<Q, J, I> {
    /// Falls back after every failure of a request for which `is_idempotent` returns `true`. Such a request may reach
    /// both sides.
    pub fn idempotent<Req, F: Fn(&Req) -> bool>(self, is_idempotent: F) -> FallBack<Q, J, F> {
        let Self { copy, judge, idempotent: _ } = self;
        FallBack { copy, judge, idempotent: is_idempotent }
    }

    /// Copies requests by `copy`. Default: [`ByClone`]. A request without a copy has no fallback.
    pub fn copy<C>(self, copy: C) -> FallBack<C, J, I> {
        let Self { copy: _, judge, idempotent } = self;
        FallBack { copy, judge, idempotent }
    }

    /// Judges the results of the new side by `judge`. Default: [`RefusedBy`] the layers of [`unsent`](FallBack::unsent).
    ///
    /// A judge that calls a request unsent although the service had it, such as [`ByError`](super::ByError) does with the
    /// refusal of a layer further in, makes both sides do its work.
    pub fn judge<C>(self, judge: C) -> FallBack<Q, C, I> {
        let Self { copy, judge: _, idempotent } = self;
        FallBack { copy, judge, idempotent }
    }
}

impl<Q: fmt::Debug, J, I> fmt::Debug for FallBack<Q, J, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallBack").field("copy", &self.copy).finish_non_exhaustive()
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A function that finds the requests that may be sent twice: closures `Fn(&Req) -> bool`, and [`NotIdempotent`].
pub trait IsIdempotent<Req> {
    /// Returns `true` if a second execution of `request` has no further effect.
    fn is_idempotent(&self, request: &Req) -> bool;
}

impl<Req> IsIdempotent<Req> for NotIdempotent {
    fn is_idempotent(&self, _request: &Req) -> bool {
        false
    }
}

impl<Req, F: Fn(&Req) -> bool> IsIdempotent<Req> for F {
    fn is_idempotent(&self, request: &Req) -> bool {
        self(request)
    }
}

/// A rule of fallbacks: [`FallBack`] or [`NoFallBack`].
///
/// This trait is sealed.
pub trait FallsBack<Req, Res, E>: sealed::Sealed {
    /// Returns the copy of a request for the old side. `None` if the request has no fallback.
    #[doc(hidden)]
    fn keep(&self, request: &Req) -> Option<Kept<Req>>;

    /// Returns the request for the old side, or `None` if `result` stands. `unsent` says that the new side failed
    /// before it had the request. `in_time` says whether the old side has time left to answer.
    #[doc(hidden)]
    fn request(
        &self,
        kept: Kept<Req>,
        result: &Result<Res, E>,
        unsent: bool,
        in_time: impl FnOnce() -> bool,
    ) -> Option<Req>;
}

/// A copy of a request.
#[doc(hidden)]
#[derive(Debug)]
pub struct Kept<Req> {
    copy: Req,
    idempotent: bool,
}

/// The rule of a split whose callers always get the result of the new side. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoFallBack;

impl sealed::Sealed for NoFallBack {}

impl<Req, Res, E> FallsBack<Req, Res, E> for NoFallBack {
    #[inline(always)]
    fn keep(&self, _: &Req) -> Option<Kept<Req>> {
        None
    }

    #[inline(always)]
    fn request(
        &self,
        _: Kept<Req>,
        _: &Result<Res, E>,
        _: bool,
        _: impl FnOnce() -> bool,
    ) -> Option<Req> {
        None
    }
}

impl<Q, J, I> sealed::Sealed for FallBack<Q, J, I> {}

impl<Req, Res, E, Q, J, I> FallsBack<Req, Res, E> for FallBack<Q, J, I>
where
    Q: CloneRequest<Req>,
    J: Judge<Res, E>,
    I: IsIdempotent<Req>,
{
    fn keep(&self, request: &Req) -> Option<Kept<Req>> {
        let copy = self.copy.clone_request(request)?;
        Some(Kept { copy, idempotent: self.idempotent.is_idempotent(request) })
    }

    fn request(
        &self,
        kept: Kept<Req>,
        result: &Result<Res, E>,
        unsent: bool,
        in_time: impl FnOnce() -> bool,
    ) -> Option<Req> {
        let ending = if unsent { Ending::Unsent } else { self.judge.judge(result) };
        let falls_back = match ending {
            Ending::Answered => false,
            Ending::Unsent => true,
            Ending::Failed => kept.idempotent,
        };
        let copy = kept.copy;
        let sendable = || in_time() && self.copy.is_repeatable(&copy) && self.copy.commit(&copy);
        if falls_back && sendable() { Some(copy) } else { None }
    }
}
