//! [`Commands`]: a repository as a tower service.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use buttress::{Codec, Format};
use tower::Service;

use super::aggregate::{Aggregate, Failed, Loaded};
use super::repository::Repository;
use super::store::Store;

/// A request that is a command to one aggregate.
pub trait Addressed: Send + 'static {
    /// The aggregate.
    type Aggregate: Aggregate;

    /// Returns the id of the aggregate, and the command.
    fn into_command(self) -> (String, <Self::Aggregate as Aggregate>::Command);
}

/// A command with the id of its aggregate, for requests that need no separate type.
#[derive(Clone, Debug)]
pub struct Command<A: Aggregate> {
    /// The id of the aggregate.
    pub id: String,
    /// The command.
    pub command: A::Command,
}

impl<A: Aggregate> Command<A> {
    /// Creates a command to the aggregate `id`.
    pub fn new(id: impl Into<String>, command: A::Command) -> Self {
        Self { id: id.into(), command }
    }
}

impl<A: Aggregate<Command: Send + 'static>> Addressed for Command<A> {
    type Aggregate = A;

    fn into_command(self) -> (String, A::Command) {
        (self.id, self.command)
    }
}

/// A service that executes commands, for layers and for [`dispatch`](crate::dispatch).
///
/// It is always ready. Each call clones the repository, and makes one allocation besides the allocations of the store.
/// Put no retry layer around it: after a lost answer it would execute the command twice. The repository repeats appends
/// itself.
#[must_use = "a service does nothing until it is called"]
pub struct Commands<A, St, C>(Repository<A, St, C>);

impl<A, St, C> Commands<A, St, C> {
    /// Creates the service.
    pub const fn new(repository: Repository<A, St, C>) -> Self {
        Self(repository)
    }
}

impl<A, St, C, Req> Service<Req> for Commands<A, St, C>
where
    A: Aggregate<Command: Send>,
    St: Store,
    C: Codec<A::Event> + Format<Encoded = Vec<u8>>,
    Req: Addressed<Aggregate = A>,
{
    type Response = Loaded<A>;
    type Error = Failed<A::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<Loaded<A>, Failed<A::Error>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let repository = self.0.clone();
        Box::pin(async move {
            let (id, command) = request.into_command();
            repository.execute(&id, &command).await
        })
    }
}

impl<A, St, C: Clone> Clone for Commands<A, St, C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Aggregate, St, C> fmt::Debug for Commands<A, St, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Commands").field(&self.0).finish()
    }
}
