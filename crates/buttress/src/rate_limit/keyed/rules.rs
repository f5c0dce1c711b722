//! Rules per key: one set for all keys, or one set per plan.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{fmt, iter};

use crate::machinery::counters::{Counters, counters};
use crate::rate_limit::config::Config;
use crate::rate_limit::state::plan::Plan;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::metric_names as all;
use crate::vocabulary::name::Name;
use crate::vocabulary::observe::Common;
use crate::vocabulary::reading::{Reading, snapshot};

/// The rules of a bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub plan: Plan,
    /// The bits of an `f32`, as errors carry it.
    pub per_second: u32,
    pub refill_tokens: u32,
    pub refill_period: Duration,
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

    /// Returns how many tokens are refilled per second.
    fn refill_rate(&self) -> f64 {
        f64::from(self.refill_tokens) / self.refill_period.as_secs_f64()
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

    /// Counts a call under the rules that `which` selects.
    fn count(&self, which: Self::Which, call: PlanCounter);

    /// Adds the numbers of each plan, whose rules are in `table`, to `reading`.
    fn read_plans(&self, table: &Self::Table, common: &Common, reading: &mut Reading);

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
    fn count(&self, (): (), _call: PlanCounter) {}

    fn read_plans(&self, _table: &Rule, _common: &Common, _reading: &mut Reading) {}

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

counters! {
    /// The counters of a plan.
    pub(crate) enum PlanCounter {
        Refused,
        Admitted,
    }
}

snapshot! {
    /// A snapshot of one plan of a keyed limiter, over all keys of the plan.
    pub struct PlanStats: Copy + Eq {
        /// Calls refused because their key had too few tokens. A call without a place for its key is in
        /// [`KeyedStats::too_many_keys`](super::KeyedStats::too_many_keys) only.
        pub refused: u64,
        /// Calls admitted. `None` unless [`count_calls`](Config::count_calls) of the limiter is on.
        pub admitted: Option<u64>,
    }
}

/// One set of rules per plan.
/// [`KeyedRateLimitLayer::with_plans`](super::KeyedRateLimitLayer::with_plans) makes it.
pub struct Plans<K, P> {
    names: Box<[P]>,
    /// The counters of the place of each plan.
    counters: Box<[Counters<PlanCounter>]>,
    plan_of: Box<dyn Fn(&K) -> P + Send + Sync>,
    /// Plans without rules that the log has, the earliest ones.
    logged: [OnceLock<P>; LOGGED_PLANS],
    layer: Name,
}

/// The label of keys whose plan is not listed.
const UNLISTED: &str = "unlisted";

/// Returns the value of the label `plan`: the plan in the format of `Debug`, a text without its quotes.
fn label(plan: &impl fmt::Debug) -> String {
    let text = format!("{plan:?}");
    let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    inside.map_or_else(|| text.clone(), str::to_owned)
}

/// How many plans without rules a limiter logs. More are probably a mistake of `plan_of`, e.g. the plan has the key.
const LOGGED_PLANS: usize = 8;

impl<K, P: PartialEq + fmt::Debug> Plans<K, P> {
    pub(super) fn new(
        names: Vec<P>,
        plan_of: Box<dyn Fn(&K) -> P + Send + Sync>,
        layer: Name,
    ) -> Self {
        let counters = (0..=names.len()).map(|_| Counters::new()).collect();
        Self { names: names.into(), counters, plan_of, logged: Default::default(), layer }
    }

    /// Returns the numbers of the plan at `place`.
    pub(super) fn stats(&self, place: usize, common: &Common) -> PlanStats {
        let sum = |which| self.counters.get(place).map_or(0, |counters| counters.sum(which));
        PlanStats {
            refused: sum(PlanCounter::Refused),
            admitted: common.count_calls.then(|| sum(PlanCounter::Admitted)),
        }
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

    fn count(&self, place: usize, call: PlanCounter) {
        if let Some(counters) = self.counters.get(place) {
            counters.add(call);
        }
    }

    fn read_plans(&self, table: &Table, common: &Common, reading: &mut Reading) {
        let listed = self.names.iter().map(|plan| label(plan));
        for (place, plan) in iter::once(UNLISTED.to_owned()).chain(listed).enumerate() {
            let stats = self.stats(place, common);
            let labels = || [Cow::Borrowed(common.layer().as_str()), Cow::Owned(plan.clone())];
            let rule = <Self as Keeps<K>>::rule(table, place);
            let size = rule.plan.max_tokens();
            reading.add(&all::RATE_LIMIT_PLAN_LIMIT, labels(), f64::from(size));
            reading.add(&all::RATE_LIMIT_PLAN_REFILL, labels(), rule.refill_rate());
            reading.add_count(&all::RATE_LIMIT_PLAN_REFUSED, labels(), stats.refused);
            if let Some(admitted) = stats.admitted {
                reading.add_count(&all::RATE_LIMIT_PLAN_ADMITTED, labels(), admitted);
            }
        }
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
