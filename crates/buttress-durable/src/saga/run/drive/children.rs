//! Child sagas of a running saga: its bond with them, their commits, and the end of a run at a stuck child.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use buttress::Codec;

use super::Run;
use crate::caught::caught;
use crate::saga::error::SagaError;
use crate::saga::model::entry::Entry;
use crate::saga::model::state::{Command, Hold, Phase};
use crate::saga::run::draft::Draft;
use crate::saga::run::slots::Place;
use crate::saga::store::Store;

impl<I, F, St> Run<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Sets the facts that the steps with child sagas need. The next poll of the steps reads them.
    pub(super) fn set_bond(&self) {
        if let Some(bond) = &self.step_runs.bond {
            let unwinding = self.durable.phase == Phase::Unwinding;
            bond.set(unwinding, self.stopped().is_some());
        }
    }

    /// Remembers when the action of a step with a child saga was started for the first time.
    pub(super) fn note_start(&self, step: u16) {
        if let Some(bond) = &self.step_runs.bond {
            let name = self.core.definition.inner.step_name(step);
            bond.set_began(name, self.histories.started(step));
        }
    }

    /// Adds the end of a run whose child is stuck, once no other step runs. Until then no step begins.
    pub(super) fn stick_to_child(&self, draft: &mut Draft<F::Encoded>) {
        let plan = &self.core.definition.inner.plan;
        if let [command @ Command::Unwind(_)] = draft.state.decide(plan, self.situation())[..] {
            self.obey(draft, command);
        }
        let is_alone = self.step_runs.is_empty() && draft.launch.is_empty();
        if let Some((step, why)) = self.blocked.first().filter(|_| is_alone && !draft.is_full()) {
            self.stick(draft, *step, why);
        }
    }

    fn stick(&self, draft: &mut Draft<F::Encoded>, step: u16, why: &str) {
        let why = Some(self.said_of(draft, step, why));
        draft.push(Entry::Stuck { step, why });
    }

    /// Gives the turn of a resumed saga to another one while this one only waits for its children, which may take days.
    pub(super) fn leave_turn(&mut self) {
        if self.turn.slot.is_some() && self.step_runs.has_only_children() {
            self.turn = Place::default();
        }
    }

    /// Whether this run has to commit the children of the saga now.
    pub(super) fn commits_children(&self) -> bool {
        self.core.definition.inner.plan.holds_children
            && self.durable.hold == Hold::Committed
            && !self.children_committed
    }

    /// Commits the children of a saga that has committed. Returns the next draft.
    pub(super) async fn commit_children(&mut self) -> Result<Draft<F::Encoded>, SagaError> {
        let core = self.core.clone();
        let mut commits = core.definition.inner.commits(self.id);
        let mut failed = None;
        loop {
            let mut notified = pin!(self.control.notify.notified());
            let are_over = poll_fn(|cx| {
                commits.retain_mut(|(step, commit)| {
                    // The store of the child is user code.
                    let polled = caught(|| commit.as_mut().poll(cx));
                    match polled.unwrap_or_else(|why| Poll::Ready(Err(why))) {
                        Poll::Pending => return true,
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(why)) => drop(failed.get_or_insert((*step, why))),
                    }
                    false
                });
                if commits.is_empty() {
                    return Poll::Ready(true);
                }
                notified.as_mut().poll(cx).map(|()| false)
            });
            if are_over.await {
                break;
            }
            // The next worker repeats the commits.
            if core.is_shutting_down() {
                return Err(SagaError::ShutDown { saga: self.id });
            }
        }
        let mut next = Draft::new(self.durable.clone());
        match failed {
            Some((step, why)) => self.stick(&mut next, step, &why),
            None => self.children_committed = true,
        }
        Ok(next)
    }
}
