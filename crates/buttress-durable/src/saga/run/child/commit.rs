//! The commit of a child saga by its parent.

use std::time::Duration;

use buttress::{Codec, StoreErrorKind};

use super::{Child, Found, LATE, SOON};
use crate::saga::model::child::Stage;
use crate::saga::model::entry::{Entry, Status};
use crate::saga::run::troubles::Operation;
use crate::saga::store::{Append, Record, Store};

impl<J, G, St> Child<J, G, St>
where
    J: Send + Sync + 'static,
    G: Codec<J>,
    St: Store<G::Encoded>,
{
    /// Commits the child, which its parent has held. An executor of its definition then completes it. Repeats all
    /// requests while the store is unavailable.
    pub(in crate::saga) async fn commit(self) -> Result<(), String> {
        let mut wait = SOON;
        loop {
            let record = match self.find().await {
                Found::Own(record) => record,
                // It has completed, and its retention is over.
                Found::Nothing => return Ok(()),
                Found::Other(why) => return Err(self.about(&why)),
            };
            match (Stage::of(&record.entries), record.status) {
                (Stage::Committed, Status::Completed) => return Ok(()),
                (Stage::Committed, _) => {
                    self.run_committed().await;
                    return Ok(());
                }
                (Stage::Held, Status::Waiting) => {
                    if self.append_committed(&record).await? {
                        self.run_committed().await;
                        return Ok(());
                    }
                }
                // A worker has taken the child for another reason, and holds it again soon.
                (Stage::Held, Status::Running) => {}
                (_, status) => {
                    let why = format!(" is {}, although its parent holds it", status.as_str());
                    return Err(self.about(&why));
                }
            }
            self.executor.core.config.common.clock.sleep(wait).await;
            wait = (wait * 2).min(LATE);
        }
    }

    /// Records the decision of the parent in the log of the child. Returns `false` if the log has to be read again.
    async fn append_committed(&self, record: &Record<G::Encoded>) -> Result<bool, String> {
        let core = &self.executor.core;
        // A waiting saga has no worker. If one takes it now, its epoch grows, and the store refuses the append.
        let (position, entries) = (record.entries.len() as u64, vec![Entry::Committed]);
        let append = Append::new(self.id, record.epoch, position, entries, Status::Waiting);
        let committing = core.store.append(append.waiting(Duration::ZERO));
        match core.ask("committing a child saga", committing).await {
            Ok(_) => {
                core.store_worked(Operation::Child);
                Ok(true)
            }
            Err(error) if error.may_pass() => {
                self.pause(&error).await;
                Ok(false)
            }
            Err(error)
                if matches!(error.kind(), StoreErrorKind::Fenced | StoreErrorKind::Conflict) =>
            {
                Ok(false)
            }
            Err(error) => Err(self.about(&format!(" cannot be committed: {error}"))),
        }
    }

    /// Makes the executor of the child take it. If that fails, another one takes it.
    async fn run_committed(&self) {
        self.look_for_due().await;
        self.executor.wake_soon();
    }
}
