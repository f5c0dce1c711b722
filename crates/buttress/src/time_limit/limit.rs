use std::time::Duration;

/// Time limit per request. Closures `Fn(&Req) -> Option<Duration>` implement it.
///
/// Only closures and [`Fixed`] implement it:
///
/// ```compile_fail
/// struct Slow;
/// impl buttress::time_limit::Limit<String> for Slow {
///     fn limit(&self, _request: &String) -> Option<std::time::Duration> {
///         None
///     }
/// }
/// ```
pub trait Limit<Req>: sealed::Sealed<Req> {
    /// Returns the limit of `request`, or `None` for the configured limit. With a limit of zero,
    /// only an answer that is ready at the first poll passes.
    fn limit(&self, request: &Req) -> Option<Duration>;
}

mod sealed {
    pub trait Sealed<Req> {}
}

impl<Req> sealed::Sealed<Req> for Fixed {}

impl<Req, F: Fn(&Req) -> Option<Duration>> sealed::Sealed<Req> for F {}

/// The configured limit for every request. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fixed;

impl<Req> Limit<Req> for Fixed {
    fn limit(&self, _request: &Req) -> Option<Duration> {
        None
    }
}

impl<Req, F: Fn(&Req) -> Option<Duration>> Limit<Req> for F {
    fn limit(&self, request: &Req) -> Option<Duration> {
        self(request)
    }
}
