/// What a call costs, in tokens. Closures `Fn(&Req) -> u32` are one.
///
/// A cost of 0 takes nothing, and passes while the limiter is not exhausted; one beyond the size of the
/// bucket never passes.
///
/// Only closures and [`OneToken`] implement it:
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
    /// The tokens `request` takes.
    fn cost(&self, request: &Req) -> u32;
}

mod sealed {
    pub trait Sealed<Req> {}
}

impl<Req> sealed::Sealed<Req> for OneToken {}

impl<Req, F: Fn(&Req) -> u32> sealed::Sealed<Req> for F {}

/// Every call costs one token. The default.
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
