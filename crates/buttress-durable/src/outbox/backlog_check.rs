//! [`BacklogCheck`]: the backlog of an outbox as a health check.

use std::fmt;
use std::time::Duration;

use buttress::health::{Finding, Watch};

use super::store::{Backlog, Store};

/// A health check of the backlog in a store.
///
/// It is DEGRADED while the oldest due message has been due for too long, while there are dead letters,
/// and while too many messages wait. It is DOWN while the store does not answer. Each run asks the store
/// once. Give it to [`Health::watch`](buttress::health::Health::watch).
///
/// ```
/// use buttress::health::{Health, Importance};
/// use buttress_durable::outbox::{BacklogCheck, MemoryStore};
///
/// let store = MemoryStore::new(buttress::Clock::default());
/// let backlog = BacklogCheck::new(store).most_pending(10_000);
/// let health = Health::new("orders", "1.4.0").watch("outbox", Importance::High, backlog)?;
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
#[must_use]
pub struct BacklogCheck<St> {
    store: St,
    oldest_age: Duration,
    most_dead: u64,
    most_pending: u64,
}

impl<St: Store> BacklogCheck<St> {
    /// Creates a check of `store` with the default limits.
    pub const fn new(store: St) -> Self {
        let oldest_age = Duration::from_secs(300);
        Self { store, oldest_age, most_dead: 0, most_pending: u64::MAX }
    }

    /// Sets the age of the oldest due message above which the check is DEGRADED. Default: 300 s, as in the alert rule
    /// `ButtressOutboxMessageOld`.
    pub const fn oldest_age(mut self, age: Duration) -> Self {
        self.oldest_age = age;
        self
    }

    /// Sets how many dead letters may wait. Default: 0, because a dead letter needs an operator.
    pub const fn most_dead(mut self, messages: u64) -> Self {
        self.most_dead = messages;
        self
    }

    /// Sets how many messages may be neither delivered nor dead. Default: no limit, because messages
    /// that are due later count too.
    pub const fn most_pending(mut self, messages: u64) -> Self {
        self.most_pending = messages;
        self
    }

    fn judge(&self, backlog: &Backlog) -> Finding {
        let Backlog { pending, dead, oldest_age, .. } = *backlog;
        let old = (oldest_age > self.oldest_age)
            .then(|| format!("the oldest due message has been due for {} s", oldest_age.as_secs()));
        let dead = (dead > self.most_dead).then(|| format!("dead letters: {dead}"));
        let pending = (pending > self.most_pending).then(|| format!("waiting messages: {pending}"));
        let reasons: Vec<String> = [old, dead, pending].into_iter().flatten().collect();
        if reasons.is_empty() { Finding::up() } else { Finding::degraded(reasons.join("; ")) }
    }
}

impl<St: Store> Watch for BacklogCheck<St> {
    async fn look(&self) -> Finding {
        match self.store.backlog().await {
            Ok(backlog) => self.judge(&backlog),
            Err(error) => Err::<(), _>(error).into(),
        }
    }
}

impl<St> fmt::Debug for BacklogCheck<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut check = f.debug_struct("BacklogCheck");
        check.field("oldest_age", &self.oldest_age).field("most_dead", &self.most_dead);
        check.field("most_pending", &self.most_pending).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use crate::outbox::MemoryStore;

    #[test]
    fn each_limit_is_the_last_number_that_is_up() {
        let check = BacklogCheck::new(MemoryStore::new(buttress::Clock::default()));
        let check = check.most_pending(7).most_dead(1).oldest_age(Duration::from_secs(60));
        let backlog = |pending, dead, nanos| Backlog {
            pending,
            dead,
            oldest_age: Duration::from_nanos(nanos),
            ..Backlog::default()
        };
        let minute = 60_000_000_000;
        assert_eq!(check.judge(&backlog(7, 1, minute)), Finding::up());
        let old = "the oldest due message has been due for 60 s";
        assert_eq!(check.judge(&backlog(7, 1, minute + 1)), Finding::degraded(old));
        assert_eq!(check.judge(&backlog(7, 2, 0)), Finding::degraded("dead letters: 2"));
        assert_eq!(check.judge(&backlog(8, 0, 0)), Finding::degraded("waiting messages: 8"));
        let all = format!("{old}; dead letters: 3; waiting messages: 9");
        assert_eq!(check.judge(&backlog(9, 3, minute + 1)), Finding::degraded(all));
    }

    #[test]
    fn by_default_age_and_dead_letters_count() {
        let check = BacklogCheck::new(MemoryStore::new(buttress::Clock::default()));
        let many = Backlog { pending: u64::MAX, ..Backlog::default() };
        assert_eq!(check.judge(&many), Finding::up());
        let dead = Backlog { dead: 1, ..Backlog::default() };
        assert_eq!(check.judge(&dead), Finding::degraded("dead letters: 1"));
        let old = Backlog { oldest_age: Duration::from_secs(301), ..Backlog::default() };
        assert_eq!(check.judge(&old).status(), buttress::health::Status::Degraded);
    }
}
