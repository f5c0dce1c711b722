//! Handlers on separate tasks.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;
use tower::Service;

use super::handler::{Entry, Runs, Work};
use super::shared::Shared;
use super::tape::Tape;
use super::transactional::{Form, sealed};
use crate::context::Context as RequestContext;
use crate::machinery::caught::{Panic, catching};
use crate::vocabulary::error::{Error, ErrorKind};

/// A mode of a layer whose handlers run on separate tasks. Made by
/// [`IdempotencyLayer::detached`](super::IdempotencyLayer::detached). `M` chooses the request type of
/// the inner service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detached<M>(pub(super) M);

impl<Req, V, M: Form<Req, V>> Form<Req, V> for Detached<M> {
    type Request = M::Request;

    fn form(&self, request: Req, held: sealed::Held<'_, V>) -> (Self::Request, sealed::Handed<V>) {
        self.0.form(request, held)
    }
}

/// A task outlives its caller, so everything in it is `'static`. It has the context of the caller, but
/// not its deadline: the handler must end although the caller has left.
impl<S, Q, T, M> Runs<S, Q, T> for Detached<M>
where
    S: Service<Q, Response: Send, Error: Send, Future: Send> + Send + 'static,
    Q: Send + 'static,
    T: Tape<S::Response, S::Error, Recording: Send> + Send + 'static,
    T::Value: Clone + Send + 'static,
{
    const DETACHED: bool = true;
    type Run = OnTask<S::Response, S::Error, T::Value>;

    fn run(work: Work<S, Q, T>, entry: Entry<T::Value>) -> Self::Run {
        let (sender, receiver) = oneshot::channel();
        let Entry { shared, entered } = entry;
        let context = RequestContext::current().without_deadline();
        let spawned = shared.spawn(context.scope(async move {
            // Nothing but its end ends a handler.
            let ended = catching(work, |_| Poll::Pending).await;
            drop(entered);
            // The caller may have dropped the call.
            drop(ended.map(|ended| sender.send(ended)));
        }));
        OnTask { receiver, shared, spawned }
    }
}

/// A handler on a separate task. The caller polls this future.
pub struct OnTask<Res, E, V> {
    receiver: oneshot::Receiver<Reply<Res, E>>,
    shared: Arc<Shared<V>>,
    spawned: bool,
}

/// The result of a handler, or its panic.
type Reply<Res, E> = Result<Result<Result<Res, E>, Error>, Panic>;

impl<Res, E, V> Future for OnTask<Res, E, V> {
    type Output = Result<Result<Res, E>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match ready!(Pin::new(&mut self.receiver).poll(cx)) {
            Ok(Ok(ended)) => Poll::Ready(ended),
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            // The task was dropped together with its runtime, or never began.
            Err(_) => {
                let refused = self.shared.refuse(ErrorKind::ShuttingDown, None);
                Poll::Ready(Err(if self.spawned { refused.after_an_attempt() } else { refused }))
            }
        }
    }
}

impl<Res, E, V> fmt::Debug for OnTask<Res, E, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnTask").field("spawned", &self.spawned).finish_non_exhaustive()
    }
}
