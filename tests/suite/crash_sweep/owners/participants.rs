//! The participants of the sagas, and their records.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::Clock;
use buttress_durable::saga::{Call, SagaId};
use buttress_sim::crash::Ledger;
use tower::Service;

pub(super) use crate::crash_sweep::ways::{Failed, Way};

use Way::{Fine, LoseAnswer, Refuse, Stumble};

/// The records of the participants. They outlive the workers.
#[derive(Clone)]
pub(super) struct World {
    pub ledger: Ledger,
    pub participants: Arc<Mutex<BTreeMap<(SagaId, &'static str), Participant>>>,
}

#[derive(Default)]
pub(super) struct Participant {
    calls: usize,
    undos: usize,
    done: bool,
    undone: bool,
}

impl World {
    pub(super) fn new() -> Self {
        Self { ledger: Ledger::new(), participants: Arc::default() }
    }

    pub(super) fn act(
        &self,
        worker: u32,
        saga: SagaId,
        step: &'static str,
        ways: &[Way],
    ) -> Result<u32, Failed> {
        self.ledger.called(saga, worker, format!("action {step}"));
        let mut participants = self.participants.lock().unwrap();
        let participant = participants.entry((saga, step)).or_default();
        if participant.undone {
            return Err(Failed(Refuse));
        }
        let way = ways[participant.calls.min(ways.len() - 1)];
        participant.calls += 1;
        match way {
            _ if participant.done => {}
            Refuse | Stumble => return Err(Failed(way)),
            Fine | LoseAnswer => {
                participant.done = true;
                self.ledger.effect(saga, step, 1);
            }
        }
        if way == LoseAnswer { Err(Failed(way)) } else { Ok(1) }
    }

    pub(super) fn undo(
        &self,
        worker: u32,
        saga: SagaId,
        step: &'static str,
        fail: usize,
    ) -> Result<u32, Failed> {
        self.ledger.called(saga, worker, format!("undo {step}"));
        let mut participants = self.participants.lock().unwrap();
        let participant = participants.entry((saga, step)).or_default();
        participant.undos += 1;
        if participant.undos <= fail {
            return Err(Failed(Stumble));
        }
        if std::mem::take(&mut participant.done) {
            self.ledger.effect(saga, step, -1);
        }
        participant.undone = true;
        Ok(0)
    }
}

/// A layer of the user that retries an action within one execution of the step.
#[derive(Clone)]
pub(super) struct Persistent<S> {
    pub inner: S,
    pub clock: Clock,
    pub wait: Option<Duration>,
}

impl<S> Service<Call<u32>> for Persistent<S>
where
    S: Service<Call<u32>, Response = u32, Error = Failed> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = u32;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<u32, Failed>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call<u32>) -> Self::Future {
        let Self { mut inner, clock, wait } = self.clone();
        Box::pin(async move {
            let mut left = 2;
            loop {
                poll_fn(|cx| inner.poll_ready(cx)).await?;
                match (inner.call(call.clone()).await, wait) {
                    (Err(Failed(Stumble | LoseAnswer)), Some(wait)) if left > 0 => {
                        left -= 1;
                        clock.sleep(wait).await;
                    }
                    (answer, _) => return answer,
                }
            }
        })
    }
}
