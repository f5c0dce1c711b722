//! [`Leaving`] and [`Ending`]: when a member releases partitions, and when it ends. Pure: they take `now`.

use std::time::{Duration, Instant};

use crate::client::Code;

/// How long a commit that the brokers have refused rests before it is repeated.
const REST: Duration = Duration::from_millis(100);
/// How long a member that ends commits its positions before it leaves the group. A consumer waits 10 seconds for both.
const COMMITS: Duration = Duration::from_secs(6);
/// How long it then waits for the group, after the grace of its partitions.
const LEAVES: Duration = Duration::from_secs(2);

/// The next step with partitions that the group revokes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Release {
    Wait,
    Commit,
    /// Release the partitions.
    Answer,
}

/// Partitions that the group revokes, and whose messages are handled.
///
/// The group waits for the answer. Until then the partitions belong to this member alone, so a commit that the brokers
/// refuse is repeated.
#[derive(Debug)]
pub(super) struct Leaving {
    pub partitions: Vec<i32>,
    /// How long commits are repeated. The group excludes a member that has sent nothing for a session.
    session: Duration,
    until: Option<Instant>,
    /// Whether the commit in progress began after the revocation.
    has_asked: bool,
    /// Until when a refused commit rests.
    rests: Option<Instant>,
    /// Whether the group has continued without this member.
    is_overtaken: bool,
}

impl Leaving {
    pub(super) fn new(partitions: Vec<i32>, session: Duration) -> Self {
        let (until, rests) = (None, None);
        Self { partitions, session, until, has_asked: false, rests, is_overtaken: false }
    }

    /// Returns the next step, once no message is being handled.
    pub(super) fn step(&mut self, now: Instant, is_committed: bool) -> Release {
        let until = *self.until.get_or_insert(now + self.session);
        if is_committed || self.is_overtaken || now >= until {
            return Release::Answer;
        }
        let rests = self.has_asked || self.rests.is_some_and(|until| now < until);
        if rests { Release::Wait } else { Release::Commit }
    }

    /// Records that a commit begins.
    pub(super) fn asked(&mut self) {
        self.has_asked = true;
    }

    /// Takes in the answer to a commit: `None`, or its failure.
    ///
    /// The answer to a commit that began before the revocation can be about an earlier generation of the group. It says
    /// nothing about this one.
    pub(super) fn answered(&mut self, now: Instant, failure: Option<Code>) {
        let is_excluded = matches!(
            failure,
            Some(Code::IllegalGeneration | Code::UnknownMemberId | Code::FencedInstanceId)
        );
        self.is_overtaken |= std::mem::take(&mut self.has_asked) && is_excluded;
        self.rests = failure.map(|_| now + REST);
    }
}

/// The next step of a member that ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Wait,
    /// Leave the group.
    Unsubscribe,
    End,
}

/// The end of a member.
///
/// It commits first, while the group counts on it, and then leaves. Brokers can refuse the commit of a member in the
/// middle of a rebalance. A member that takes part in it gets to its end, and can commit again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    Commits { until: Instant },
    Leaves { until: Instant },
}

impl Ending {
    pub(super) fn new(now: Instant) -> Self {
        Self::Commits { until: now + COMMITS }
    }

    /// Returns the next step. `owns` says whether the member has partitions, and `grace` how long they may take to end.
    pub(super) fn step(
        &mut self,
        now: Instant,
        is_committed: bool,
        owns: bool,
        grace: Duration,
    ) -> Step {
        match *self {
            Self::Commits { until } if !is_committed && now < until => Step::Wait,
            Self::Commits { .. } => {
                *self = Self::Leaves { until: now + grace + LEAVES };
                Step::Unsubscribe
            }
            Self::Leaves { until } if owns && now < until => Step::Wait,
            Self::Leaves { .. } => Step::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use buttress::Clock;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SESSION: Duration = Duration::from_secs(10);

    fn leaving() -> (Leaving, Instant) {
        (Leaving::new(vec![3], SESSION), Clock::default().now())
    }

    #[test]
    fn a_refused_commit_is_repeated_for_a_session() {
        let (mut leaving, now) = leaving();
        assert_eq!(leaving.step(now, false), Release::Commit);
        for code in [Code::RebalanceInProgress, Code::NotCoordinator, Code::RequestTimedOut] {
            leaving.asked();
            assert_eq!(leaving.step(now, false), Release::Wait, "for the answer");
            leaving.answered(now, Some(code));
            assert_eq!(leaving.step(now + REST - MS, false), Release::Wait, "{code:?}");
            assert_eq!(leaving.step(now + REST, false), Release::Commit, "{code:?}");
            assert_eq!(leaving.step(now + SESSION - MS, false), Release::Commit, "{code:?}");
        }
        assert_eq!(leaving.step(now + MS, true), Release::Answer);
        assert_eq!(leaving.step(now + SESSION, false), Release::Answer);
    }

    #[test]
    fn a_member_that_is_overtaken_answers() {
        for code in [Code::IllegalGeneration, Code::UnknownMemberId, Code::FencedInstanceId] {
            let (mut leaving, now) = leaving();
            leaving.answered(now, Some(code));
            assert_eq!(leaving.step(now + REST, false), Release::Commit, "of a generation before");
            leaving.asked();
            leaving.answered(now + REST, Some(code));
            assert_eq!(leaving.step(now + REST, false), Release::Answer, "{code:?}");
        }
    }

    #[test]
    fn a_member_that_ends_commits_before_it_leaves() {
        let now = Clock::default().now();
        let mut ending = Ending::new(now);
        assert_eq!(ending.step(now, false, true, SESSION), Step::Wait);
        assert_eq!(ending.step(now + COMMITS - MS, false, true, SESSION), Step::Wait);
        let mut committed = ending;
        assert_eq!(committed.step(now, true, true, SESSION), Step::Unsubscribe);
        assert_eq!(committed.step(now, true, true, SESSION), Step::Wait);
        assert_eq!(committed.step(now, true, false, SESSION), Step::End);
        let late = now + COMMITS;
        assert_eq!(ending.step(late, false, true, SESSION), Step::Unsubscribe);
        assert_eq!(ending.step(late + SESSION + LEAVES - MS, false, true, SESSION), Step::Wait);
        assert_eq!(ending.step(late + SESSION + LEAVES, false, true, SESSION), Step::End);
    }
}
