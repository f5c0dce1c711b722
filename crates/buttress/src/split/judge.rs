//! The meaning of a result for its request.

use std::sync::Arc;

use crate::vocabulary::classify::AsRefusal;
use crate::vocabulary::error::Error;
use crate::vocabulary::name::Name;

/// The meaning of a result for its request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ending {
    /// The service answered.
    Answered,
    /// The service never had the request: a layer in front of it refused the call.
    Unsent,
    /// The call failed, and the service may have done its work.
    Failed,
}

/// A judge of results: of the new side of a split, or of the primary of a shadow. Closures
/// `Fn(&Result<Res, E>) -> Ending` implement it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot judge a `Result<{Res}, {E}>`",
    label = "this judge does not know whether the service had the request",
    note = "for services that cannot fail (an axum route), add `.judge(ByResponse::new())` from `buttress_http::split`",
    note = "for the new side of a split over HTTP, use the rule `buttress_http::split::fall_back([..])`, which has a judge",
    note = "for your own error type, implement `buttress::AsRefusal` for it",
    note = "or add `.judge(|result: &Result<_, _>| ..)`, a closure that returns a `buttress::split::Ending`"
)]
pub trait Judge<Res, E> {
    /// Returns the meaning of `result` for its request.
    fn judge(&self, result: &Result<Res, E>) -> Ending;
}

impl<Res, E, F: Fn(&Result<Res, E>) -> Ending> Judge<Res, E> for F {
    fn judge(&self, result: &Result<Res, E>) -> Ending {
        self(result)
    }
}

/// Judge by errors: every refusal that [never reached the service](Error::never_reached_service) is unsent, and every
/// other error failed. The default of a [`Shadow`](crate::shadow::Shadow).
///
/// It cannot know which layer refused. A service that passes on the refusal of a layer further in, for example of a
/// circuit breaker around its database, had the request. Use [`RefusedBy`] for such services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByError;

#[diagnostic::do_not_recommend]
impl<Res, E: AsRefusal> Judge<Res, E> for ByError {
    fn judge(&self, result: &Result<Res, E>) -> Ending {
        ending(result, Error::never_reached_service)
    }
}

/// Judge by errors and the names of layers: a refusal by one of these layers that
/// [never reached the service](Error::never_reached_service) is unsent, and every other error failed.
#[derive(Clone, Debug)]
pub struct RefusedBy {
    layers: Arc<[Name]>,
}

impl RefusedBy {
    /// Trusts the refusals of the layers with these names. They must be the names of layers around the judged service,
    /// and no other layer of the process may have them. An empty name counts as none.
    pub fn new<T: Into<Name>>(layers: impl IntoIterator<Item = T>) -> Self {
        let layers = layers.into_iter().map(Into::into);
        Self { layers: layers.filter(|name| !name.as_str().is_empty()).collect() }
    }

    /// Returns `true` if `refusal` shows that the judged service never had the request.
    #[must_use]
    pub fn is_unsent(&self, refusal: &Error) -> bool {
        let layers = &self.layers;
        refusal.never_reached_service() && layers.iter().any(|it| it.as_str() == refusal.layer())
    }
}

#[diagnostic::do_not_recommend]
impl<Res, E: AsRefusal> Judge<Res, E> for RefusedBy {
    fn judge(&self, result: &Result<Res, E>) -> Ending {
        ending(result, |refusal| self.is_unsent(refusal))
    }
}

/// Returns the ending of a result whose refusal, if it is one, was unsent if `is_unsent` says so.
fn ending<Res, E: AsRefusal>(
    result: &Result<Res, E>,
    is_unsent: impl Fn(&Error) -> bool,
) -> Ending {
    match result.as_ref().map_err(AsRefusal::as_refusal) {
        Ok(_) => Ending::Answered,
        Err(refusal) if refusal.is_some_and(is_unsent) => Ending::Unsent,
        Err(_) => Ending::Failed,
    }
}
