/// The cost of a call, in tokens. Closures `Fn(&Req) -> u32` implement it.
///
/// A call of cost 0 takes no token and passes unless the limiter is exhausted. A call that costs
/// more than the size of the bucket never passes.
///
/// Only closures and [`OneToken`] implement this trait:
///
/// ```compile_fail
/// struct ByLength;
/// impl buttress::rate_limit::Cost<String> for ByLength {
///     fn cost(&self, request: &String) -> u32 {
///         request.len() as u32
///     }
/// }
/// ```
pub trait Cost<Req>: sealed::Sealed<Req> {
    /// Returns how many tokens `request` takes.
    fn cost(&self, request: &Req) -> u32;
}

mod sealed {
    pub trait Sealed<Req> {}
}

impl<Req> sealed::Sealed<Req> for OneToken {}

impl<Req, F: Fn(&Req) -> u32> sealed::Sealed<Req> for F {}

/// The cost of one token for every call. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OneToken;

impl<Req> Cost<Req> for OneToken {
    fn cost(&self, _request: &Req) -> u32 {
        1
    }
}

impl<Req, F: Fn(&Req) -> u32> Cost<Req> for F {
    fn cost(&self, request: &Req) -> u32 {
        self(request)
    }
}
