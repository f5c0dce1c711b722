//! Rules per key: one set for all keys, or one set per plan.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::rate_limit::config::Config;
use crate::rate_limit::state::plan::Plan;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::name::Name;

/// The rules of a bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) plan: Plan,
    /// The bits of an `f32`, as errors carry it.
    pub(crate) per_second: u32,
    pub(crate) refill_tokens: u32,
    pub(crate) refill_period: Duration,
}

impl Rule {
    /// `config` must have been checked.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            plan: Plan::new(config),
            per_second: config.per_second().to_bits(),
            refill_tokens: config.refill_tokens,
            refill_period: config.refill_period,
        }
    }
}

/// The state of a key in a keyed limiter, and the search for the rules of a key.
pub(crate) trait Keeps<K> {
    /// The rules of all keys.
    type Table: Clone + fmt::Debug;
    /// Selects the rules of a key.
    type Which: Copy;
    /// The state of a key.
    type Entry: fmt::Debug;

    /// Returns the selector of the rules that `key` has now. It may run code of the user, so the
    /// caller holds no lock.
    fn which(&self, key: &K) -> Self::Which;

    /// Returns `true` if `which` selects the rules of keys whose plan is not listed.
    fn is_unlisted(which: Self::Which) -> bool;

    /// Creates a full bucket.
    fn full(which: Self::Which) -> Self::Entry;

    /// Returns the rules that `which` selects.
    fn rule(table: &Self::Table, which: Self::Which) -> &Rule;

    /// Returns the rules that `entry` was last used under, and its spent position.
    fn kept<'t>(table: &'t Self::Table, entry: &Self::Entry) -> (&'t Rule, u64);

    /// Moves `entry` to the rules that `which` selects, at its current level. Returns those rules
    /// and the spent position.
    fn under<'t, 'e>(
        table: &'t Self::Table,
        entry: &'e mut Self::Entry,
        which: Self::Which,
        now: u64,
    ) -> (&'t Rule, &'e mut u64);

    /// Returns a copy of `table` in which `rule` replaces the rules that `which` selects.
    fn replaced(table: &Self::Table, which: Self::Which, rule: Rule) -> Self::Table;

    /// Returns `true` if `entry` uses the rules that `which` selects.
    fn is_under(entry: &Self::Entry, which: Self::Which) -> bool;

    /// Returns the spent position.
    fn spent(entry: &mut Self::Entry) -> &mut u64;
}

/// The search for the rules of a key in a keyed limiter. Only [`OneRule`] and [`Plans`] implement it.
#[allow(private_bounds, reason = "only this crate defines the state of a key")]
pub trait Rules<K>: Keeps<K> {}

/// One set of rules for every key. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OneRule;

impl<K> Rules<K> for OneRule {}

impl<K> Keeps<K> for OneRule {
    type Table = Rule;
    type Which = ();
    type Entry = u64;

    #[inline(always)]
    fn which(&self, _key: &K) {}

    #[inline(always)]
    fn is_unlisted((): ()) -> bool {
        false
    }

    #[inline(always)]
    fn full((): ()) -> u64 {
        0
    }

    #[inline(always)]
    fn rule(table: &Rule, (): ()) -> &Rule {
        table
    }

    #[inline(always)]
    fn kept<'t>(table: &'t Rule, entry: &u64) -> (&'t Rule, u64) {
        (table, *entry)
    }

    #[inline(always)]
    fn under<'t, 'e>(
        table: &'t Rule,
        entry: &'e mut u64,
        (): (),
        _now: u64,
    ) -> (&'t Rule, &'e mut u64) {
        (table, entry)
    }

    fn replaced(_table: &Rule, (): (), rule: Rule) -> Rule {
        rule
    }

    fn is_under(_entry: &u64, (): ()) -> bool {
        true
    }

    fn spent(entry: &mut u64) -> &mut u64 {
        entry
    }
}

/// One set of rules per plan.
/// [`KeyedRateLimitLayer::with_plans`](super::KeyedRateLimitLayer::with_plans) makes it.
pub struct Plans<K, P> {
    names: Box<[P]>,
    plan_of: Box<dyn Fn(&K) -> P + Send + Sync>,
    /// Plans without rules that the log has, the earliest ones.
    logged: [OnceLock<P>; LOGGED_PLANS],
    layer: Name,
}

/// How many plans without rules a limiter logs. More are probably a mistake of `plan_of`, e.g. the plan has the key.
const LOGGED_PLANS: usize = 8;

impl<K, P: PartialEq + fmt::Debug> Plans<K, P> {
    pub(super) fn new(
        names: Vec<P>,
        plan_of: Box<dyn Fn(&K) -> P + Send + Sync>,
        layer: Name,
    ) -> Self {
        Self { names: names.into(), plan_of, logged: Default::default(), layer }
    }

    /// Logs a plan without rules, once.
    #[cold]
    fn log_unlisted(&self, mut plan: P) {
        for place in &self.logged {
            match place.set(plan) {
                Ok(()) => {
                    let layer = self.layer.as_str();
                    let plan = place.get().map(tracing::field::debug);
                    tracing::warn!(target: "buttress", layer, plan, "a plan has no rules, so its keys have the rules of keys without a plan");
                    return;
                }
                Err(again) if place.get() == Some(&again) => return,
                Err(other) => plan = other,
            }
        }
    }

    /// Returns the place of `plan` in the table; 0 is the place of the rules without a plan.
    pub(super) fn place(&self, plan: &P) -> Option<usize> {
        Some(self.names.iter().position(|name| name == plan)? + 1)
    }

    pub(super) fn known(&self, plan: &P) -> Result<usize, InvalidConfig> {
        let refused = || {
            let bound = format!("one of {:?}", self.names);
            InvalidConfig::new("plan", format!("{plan:?}"), bound)
        };
        self.place(plan).ok_or_else(refused)
    }
}

impl<K, P: fmt::Debug> fmt::Debug for Plans<K, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plans").field("names", &self.names).finish_non_exhaustive()
    }
}

/// The rules of all plans.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// The rules of a key without a listed plan.
    pub(super) base: Rule,
    pub(super) plans: Arc<[Rule]>,
}

/// The state of a key that has a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnPlan {
    spent: u64,
    place: usize,
}

impl<K, P: PartialEq + fmt::Debug> Rules<K> for Plans<K, P> {}

impl<K, P: PartialEq + fmt::Debug> Keeps<K> for Plans<K, P> {
    type Table = Table;
    type Which = usize;
    type Entry = OnPlan;

    fn which(&self, key: &K) -> usize {
        let plan = (self.plan_of)(key);
        self.place(&plan).unwrap_or_else(|| {
            self.log_unlisted(plan);
            0
        })
    }

    fn is_unlisted(place: usize) -> bool {
        place == 0
    }

    fn full(place: usize) -> OnPlan {
        OnPlan { spent: 0, place }
    }

    fn rule(table: &Table, place: usize) -> &Rule {
        let listed = place.checked_sub(1).and_then(|place| table.plans.get(place));
        listed.unwrap_or(&table.base)
    }

    fn kept<'t>(table: &'t Table, entry: &OnPlan) -> (&'t Rule, u64) {
        (<Self as Keeps<K>>::rule(table, entry.place), entry.spent)
    }

    fn under<'t, 'e>(
        table: &'t Table,
        entry: &'e mut OnPlan,
        place: usize,
        now: u64,
    ) -> (&'t Rule, &'e mut u64) {
        let rule = <Self as Keeps<K>>::rule(table, place);
        if entry.place != place {
            let (old, spent) = <Self as Keeps<K>>::kept(table, entry);
            *entry = OnPlan { spent: rule.plan.carry(&old.plan, spent, now), place };
        }
        (rule, &mut entry.spent)
    }

    fn replaced(table: &Table, place: usize, rule: Rule) -> Table {
        let mut table = table.clone();
        match place.checked_sub(1) {
            None => table.base = rule,
            Some(place) => {
                let other = |(n, old): (usize, &Rule)| if n == place { rule } else { *old };
                table.plans = table.plans.iter().enumerate().map(other).collect();
            }
        }
        table
    }

    fn is_under(entry: &OnPlan, place: usize) -> bool {
        entry.place == place
    }

    fn spent(entry: &mut OnPlan) -> &mut u64 {
        &mut entry.spent
    }
}
