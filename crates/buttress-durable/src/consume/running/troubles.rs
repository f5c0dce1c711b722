//! Operations of the transport and of the dead letters: repeated until they work, with one log line per outage.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buttress::{Clock, StoreError};

use super::Boxed;
use crate::bounded::bounded;
use crate::caught::{caught, finishing};
use crate::causes::{WithCauses, describe};
use crate::consume::consumer::{Consumer, Shared};
use crate::outage::{Outage, Say};

/// The wait after the first failure. Each further failure in a row doubles it.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait for an answer to anything but `receive`.
const LONGEST: Duration = Duration::from_secs(10);

/// An operation that may fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    Receive,
    Settle,
    Keep,
    Close,
    Bury,
    Remove,
    Holds,
    Claim,
    Renew,
}

impl Operation {
    const COUNT: usize = 9;

    const fn doing(self) -> &'static str {
        match self {
            Self::Receive => "receiving messages",
            Self::Settle => "settling messages",
            Self::Keep => "keeping messages",
            Self::Close => "leaving the group",
            Self::Bury => "writing a dead letter",
            Self::Remove => "removing a dead letter",
            Self::Holds => "asking whether a dead letter holds a key",
            Self::Claim => "claiming dead letters",
            Self::Renew => "renewing the claims on dead letters",
        }
    }

    /// Waits for the answer of a transport or a store, and drops its future. A panic is an error, unless the answer came
    /// before it: the future may panic when it is dropped.
    ///
    /// The future is boxed before it is wrapped. Without optimisation each wrapper has room for it twice, and the future of
    /// a transport that connects is large.
    pub(super) fn answer<T>(
        self,
        asking: impl Future<Output = Result<T, StoreError>>,
    ) -> impl Future<Output = Result<T, StoreError>> {
        let asking = finishing(Box::pin(asking));
        async move { asking.await.unwrap_or_else(|panic| Err(self.panicked(&panic))) }
    }

    fn panicked(self, panic: &str) -> StoreError {
        StoreError::transient(format!("{}: the store {panic}", self.doing()))
    }
}

/// The failures of a consumer's operations.
pub(super) struct Troubles {
    pub clock: Clock,
    shared: Arc<Shared>,
    outage: Mutex<Outage<{ Operation::COUNT }>>,
}

impl Troubles {
    pub(super) fn new<Src, H, C, D>(consumer: &Consumer<Src, H, C, D>) -> Self {
        let (clock, shared) = (consumer.config.common.clock.clone(), consumer.shared.clone());
        Self { clock, shared, outage: Mutex::default() }
    }

    /// Waits for an answer up to [`LONGEST`]. Waits without a limit for messages. A panic is an error.
    pub(super) fn bounded<T>(
        &self,
        operation: Operation,
        asking: impl Future<Output = Result<T, StoreError>>,
    ) -> impl Future<Output = Result<T, StoreError>> {
        let asking = operation.answer(asking);
        async move {
            match operation {
                Operation::Receive => asking.await,
                // The end of the time limit drops a future that has not answered.
                _ => {
                    let bounded = bounded(&self.clock, LONGEST, operation.doing(), asking);
                    operation.answer(bounded).await
                }
            }
        }
    }

    /// Takes in a failure. Returns how long to wait.
    pub(super) fn failed(&self, operation: Operation, error: &StoreError) -> Duration {
        let (layer, doing) = (self.shared.layer.as_str(), operation.doing());
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let (say, wait) = outage.failed(operation as usize, error, FIRST, self.clock.now());
        drop(outage);
        let mut control = self.shared.control();
        control.stats.failed_operations += 1;
        control.troubles.retain(|(known, _)| *known != doing);
        control.troubles.push((doing, describe(error)));
        drop(control);
        match say {
            Say::Began => tracing::warn!(
                target: "buttress", layer, doing, error = %WithCauses(error),
                "the consumer gets no answer; it repeats the operation after growing waits"
            ),
            Say::Mend => tracing::error!(
                target: "buttress", layer, doing, error = %WithCauses(error),
                "an operator must fix the store or the transport; the consumer repeats the operation once a minute"
            ),
            Say::Nothing => {
                tracing::debug!(target: "buttress", layer, doing, error = %WithCauses(error), ?wait, "the consumer gets no answer");
            }
        }
        wait
    }

    /// Records that an operation worked.
    pub(super) fn worked(&self, operation: Operation) {
        let (layer, doing) = (self.shared.layer.as_str(), operation.doing());
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let lasted = outage.worked(operation as usize, self.clock.now());
        drop(outage);
        self.shared.control().troubles.retain(|(known, _)| *known != doing);
        if let Some(lasted) = lasted {
            tracing::info!(target: "buttress", layer, doing, ?lasted, "the consumer gets answers again");
        }
    }
}

/// Repeats an operation until it works. `ask` passes the futures of user code through [`Operation::answer`].
pub(super) fn persist<T, F>(
    troubles: &Arc<Troubles>,
    operation: Operation,
    ask: impl Fn() -> F + Send + 'static,
) -> Boxed<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    let troubles = troubles.clone();
    Box::pin(async move {
        loop {
            let answer = match caught(&ask) {
                Ok(asking) => troubles.bounded(operation, asking).await,
                Err(panic) => Err(operation.panicked(&panic)),
            };
            match answer {
                Ok(answer) => {
                    troubles.worked(operation);
                    return answer;
                }
                Err(error) => {
                    let wait = troubles.failed(operation, &error);
                    troubles.clock.sleep(wait).await;
                }
            }
        }
    })
}
