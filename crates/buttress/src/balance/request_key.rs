//! How a balancer finds the key of a request, and the endpoints that it has tried.

use super::tried::Tried;

/// Only closures and the defaults implement the traits of this file.
mod sealed {
    pub trait Sealed<Req> {}
}

/// A function that finds the key of a request. Closures `Fn(&Req) -> Option<u64>` and [`NoKey`] implement it, and no
/// other type can.
pub trait FindKey<Req>: sealed::Sealed<(Req, u64)> {
    /// Returns the key, or `None` for a request that any endpoint may get.
    fn key(&self, request: &Req) -> Option<u64>;
}

/// A function that finds the [`Tried`] of a request. Closures `Fn(&Req) -> Option<&Tried>` and [`NoTried`] implement
/// it, and no other type can.
pub trait FindTried<Req>: sealed::Sealed<(Req, Tried)> {
    /// Returns the record of the request's attempts, or `None` for a request without one.
    fn tried<'a>(&self, request: &'a Req) -> Option<&'a Tried>;
}

/// The function of a balancer whose requests have no key. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoKey;

/// The function of a balancer whose requests have no record of their attempts. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoTried;

impl<Req> sealed::Sealed<(Req, u64)> for NoKey {}

impl<Req> FindKey<Req> for NoKey {
    #[inline(always)]
    fn key(&self, _request: &Req) -> Option<u64> {
        None
    }
}

impl<Req, F: Fn(&Req) -> Option<u64>> sealed::Sealed<(Req, u64)> for F {}

impl<Req, F: Fn(&Req) -> Option<u64>> FindKey<Req> for F {
    fn key(&self, request: &Req) -> Option<u64> {
        self(request)
    }
}

impl<Req> sealed::Sealed<(Req, Tried)> for NoTried {}

impl<Req> FindTried<Req> for NoTried {
    #[inline(always)]
    fn tried<'a>(&self, _request: &'a Req) -> Option<&'a Tried> {
        None
    }
}

impl<Req, F> sealed::Sealed<(Req, Tried)> for F where F: for<'a> Fn(&'a Req) -> Option<&'a Tried> {}

impl<Req, F> FindTried<Req> for F
where
    F: for<'a> Fn(&'a Req) -> Option<&'a Tried>,
{
    fn tried<'a>(&self, request: &'a Req) -> Option<&'a Tried> {
        self(request)
    }
}
