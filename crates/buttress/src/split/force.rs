//! How a split finds the side that a request asks for.

use super::state::Side;

/// Only closures and the default implement the trait of this file.
mod sealed {
    pub trait Sealed<Req> {}
}

/// A function that finds the side that a request asks for. Closures `Fn(&Req) -> Option<Side>` and [`NotForced`]
/// implement it, and no other type can.
pub trait FindSide<Req>: sealed::Sealed<Req> {
    /// Returns the side, or `None` for a request that asks for none.
    fn side(&self, request: &Req) -> Option<Side>;
}

/// No request chooses its side. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotForced;

impl<Req> sealed::Sealed<Req> for NotForced {}

impl<Req> FindSide<Req> for NotForced {
    #[inline(always)]
    fn side(&self, _request: &Req) -> Option<Side> {
        None
    }
}

impl<Req, F: Fn(&Req) -> Option<Side>> sealed::Sealed<Req> for F {}

impl<Req, F: Fn(&Req) -> Option<Side>> FindSide<Req> for F {
    fn side(&self, request: &Req) -> Option<Side> {
        self(request)
    }
}
