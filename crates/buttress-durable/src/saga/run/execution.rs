//! [`Execution`]: the future of a saga that has begun.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

use crate::ended::polled_after_completion;
use crate::saga::error::SagaError;
use crate::saga::report::Report;
use crate::saga::store::SagaId;

/// A saga that has begun, as a future of its [`Report`]. Dropping it leaves the saga running.
#[derive(Debug)]
#[must_use = "a saga's failure is in its report"]
pub struct Execution {
    pub(in crate::saga) id: SagaId,
    /// `None` once it has answered.
    receiver: Option<oneshot::Receiver<Result<Report, SagaError>>>,
}

impl Execution {
    pub(in crate::saga) fn new(
        id: SagaId,
        receiver: oneshot::Receiver<Result<Report, SagaError>>,
    ) -> Self {
        Self { id, receiver: Some(receiver) }
    }

    /// Returns the id of the saga.
    #[must_use]
    pub fn id(&self) -> SagaId {
        self.id
    }
}

impl Future for Execution {
    type Output = Result<Report, SagaError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let saga = self.id;
        let Some(receiver) = &mut self.receiver else { polled_after_completion("Execution") };
        let received = ready!(Pin::new(receiver).poll(cx));
        self.receiver = None;
        // The task ended without an answer: its runtime was shut down.
        Poll::Ready(received.unwrap_or(Err(SagaError::ShutDown { saga })))
    }
}
