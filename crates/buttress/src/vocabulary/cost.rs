/// What a call costs, in tokens. Closures `Fn(&Req) -> u32` are one.
///
/// A cost of 0 takes nothing, and passes while the limiter is not exhausted; one beyond the size of the
/// bucket never passes.
pub trait Cost<Req> {
    /// The tokens `request` takes.
    fn cost(&self, request: &Req) -> u32;
}

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
