use std::future::Future;

use super::instance::Instance;
use crate::vocabulary::store_error::StoreError;

/// A source of the instances of one service: a registry, a DNS name, a file.
///
/// [`Balance::resolving`](crate::balance::Balance::resolving) asks it on a separate task. The [module](super) has
/// an example for a registry over HTTP.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not resolve the instances of a service",
    note = "use `buttress::discover::fixed` or `file`, or implement `buttress::discover::Resolve`, which is one method"
)]
pub trait Resolve: Send {
    /// Returns the whole set of instances once it is known, and later once it has changed. Waits until then.
    ///
    /// An empty set is authoritative: the balancer then has no endpoint. Return an error if you cannot know that no
    /// instance exists, e.g. if every target of a name failed to resolve.
    ///
    /// # Errors
    /// Returns an error for a failure to ask. The balancer keeps the last set, reports its age, and calls `next` again
    /// after a wait.
    ///
    /// # Cancel safety
    /// The balancer drops the future when the balancer itself is dropped, and calls `next` no more.
    fn next(&mut self) -> impl Future<Output = Result<Vec<Instance>, StoreError>> + Send;
}
