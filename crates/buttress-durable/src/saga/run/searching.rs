//! [`Search`]: finds sagas by status, age, step and reason.

use std::time::Duration;

use buttress::{Codec, StoreError};

use crate::saga::error::SagaError;
use crate::saga::model::entry::Status;
use crate::saga::report::{StepStatus, Tree};
use crate::saga::run::executor::Executor;
use crate::saga::store::{Page, SagaId, Store};
use crate::setters::setters;

/// How many sagas one query lists.
const PAGE: usize = 100;

/// Conditions on the sagas of the versions that an executor runs, for [`Executor::search`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Search {
    status: Option<Status>,
    older_than: Option<Duration>,
    at_step: Option<String>,
    reason: Option<String>,
    after: Option<SagaId>,
    limit: usize,
    scan: usize,
}

/// The result of [`Executor::search`].
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// The sagas that meet all conditions, ordered by id.
    pub sagas: Vec<Tree>,
    /// Sagas whose logs cannot be read.
    pub unreadable: Vec<SagaId>,
    /// The last saga that the search has looked at, if more sagas may follow. Continue with
    /// [`Search::after`].
    pub next: Option<SagaId>,
}

impl Default for Search {
    fn default() -> Self {
        Self::new()
    }
}

impl Search {
    /// Creates a search for the first 100 sagas of any kind.
    pub const fn new() -> Self {
        Self {
            status: None,
            older_than: None,
            at_step: None,
            reason: None,
            after: None,
            limit: 100,
            scan: 10_000,
        }
    }

    setters! {
        /// Asks only for sagas with this status. Default: any status.
        status(status: Status) => Some(status);

        /// Asks only for sagas that were created at least `age` ago, by the executor's wall clock.
        /// Default: any age. A saga without a known time counts as old.
        older_than(age: Duration) => Some(age);

        /// Asks only for sagas at this step: its action or undo is in progress, failed or is in doubt.
        /// Default: any step.
        at_step(step: impl Into<String>) => Some(step.into());

        /// Asks only for sagas whose reason contains this text. Default: any reason, or none.
        reason(part: impl Into<String>) => Some(part.into());

        /// Continues after the saga [`Found::next`] of an earlier search. Default: from the start.
        after(saga: SagaId) => Some(saga);

        /// Sets how many sagas the search returns at most. Default: 100.
        limit(sagas: usize);

        /// Sets how many sagas of the store the search looks at, at most. Default: 10 000. The search
        /// reads the log of each saga of its definition.
        scan(sagas: usize);
    }

    fn matches(&self, tree: &Tree, now: Duration) -> bool {
        let is_at = |step: &str| {
            let here = |status| {
                !matches!(status, StepStatus::Pending | StepStatus::Done | StepStatus::Undone)
            };
            tree.steps.iter().any(|own| own.name.as_str() == step && here(own.status))
        };
        let is_old = |age: Duration| {
            tree.created_at.is_none_or(|created_at| now.saturating_sub(created_at) >= age)
        };
        let has = |part: &str| tree.reason.as_deref().is_some_and(|reason| reason.contains(part));
        self.status.is_none_or(|status| tree.status == status)
            && self.older_than.is_none_or(is_old)
            && self.at_step.as_deref().is_none_or(is_at)
            && self.reason.as_deref().is_none_or(has)
    }
}

impl<I, F, St> Executor<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Finds sagas by status, age, step and reason, with their steps. They are of this version of the definition, or
    /// of one that [also runs](Self::also_run) here.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower::BoxError> {
    /// # use tower::{BoxError, service_fn};
    /// use buttress_durable::saga::{Call, Config, Definition, Executor, Kind, Search, Status};
    ///
    /// # let charge = service_fn(async |_: Call<u32>| Err::<(), BoxError>("no answer".into()));
    /// let mut order = Definition::<u32>::builder("order", 1);
    /// order.step("charge").kind(Kind::Pivot).action((), charge, |cents: &u32, ()| *cents).add();
    /// let orders = Executor::in_memory(order.build()?, Config::new())?;
    /// let id = orders.run_to_end(990).await?.id();
    ///
    /// let stuck = Search::new().status(Status::Stuck).at_step("charge").reason("no answer");
    /// let found = orders.search(stuck).await?;
    /// assert_eq!(found.sagas[0].id, id);
    /// assert_eq!(found.sagas[0].steps[0].history.attempts, 10);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns the error of the store.
    pub async fn search(&self, search: Search) -> Result<Found, StoreError> {
        let core = &self.core;
        let definition = &core.definition.inner;
        let now = core.config.common.clock.unix();
        let known = self.known_versions();
        let (mut found, mut after, mut left) = (Found::default(), search.after, search.scan);
        loop {
            let limit = left.min(PAGE);
            if limit == 0 || found.sagas.len() >= search.limit {
                found.next = after;
                return Ok(found);
            }
            let page = Page::first(limit).status(search.status).after(after);
            let listed = self.list(page).await?;
            let is_last = listed.len() < limit;
            for summary in listed {
                if found.sagas.len() >= search.limit {
                    found.next = after;
                    return Ok(found);
                }
                after = Some(summary.id);
                left -= 1;
                let own = summary.definition == definition.name.as_str()
                    && known.contains(&summary.version);
                if !own {
                    continue;
                }
                match self.state(summary.id).await {
                    Ok(Some(tree)) if search.matches(&tree, now) => found.sagas.push(tree),
                    Ok(_) => {}
                    Err(SagaError::Store { error, .. }) if error.may_pass() => return Err(error),
                    Err(_) => found.unreadable.push(summary.id),
                }
            }
            if is_last {
                return Ok(found);
            }
        }
    }
}
