//! The decision which calls have a fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use buttress::Rng;

use crate::rng::{Seed, happens};

/// Which of the calls that match a rule have its fault. Calls are counted from the moment at which the
/// rule was added.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Calls {
    /// The call with this number, from 1.
    Nth(u64),
    /// This number of calls.
    First(u64),
    All,
    /// A share of all calls, drawn from a seed.
    Share(Seed, f64),
}

impl Calls {
    /// Whether call `number`, from 1, has the fault.
    fn take(self, number: u64) -> bool {
        match self {
            Self::Nth(nth) => number == nth,
            Self::First(most) => number <= most,
            Self::All => true,
            // A draw per number: calls that other rules match change nothing.
            Self::Share(seed, share) => happens(&Rng::seeded(seed.repetition(number).get()), share),
        }
    }
}

/// A fault that a test has injected. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Injection {
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    hits: AtomicU64,
    lifted: AtomicBool,
}

impl Injection {
    /// Returns how many calls had the fault so far.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.progress.hits.load(Ordering::Acquire)
    }

    /// Removes the fault. Later calls do not have it. A call that hangs because of the fault keeps hanging.
    pub fn lift(&self) {
        self.progress.lifted.store(true, Ordering::Release);
    }
}

struct Rule<T, F> {
    target: T,
    calls: Calls,
    fault: F,
    /// The number of calls that matched so far.
    matched: u64,
    text: String,
    injection: Injection,
}

/// The faults of a test, in the order in which the test has added them. `T` describes the calls of a
/// rule, and `F` the fault.
pub(super) struct Rules<T, F> {
    rules: Vec<Rule<T, F>>,
}

impl<T, F> Default for Rules<T, F> {
    fn default() -> Self {
        Self { rules: Vec::new() }
    }
}

impl<T, F: Clone> Rules<T, F> {
    /// Adds a rule. `text` describes it in messages.
    pub(super) fn add(&mut self, target: T, calls: Calls, fault: F, text: String) -> Injection {
        let injection = Injection { progress: Arc::default() };
        let rule = Rule { target, calls, fault, matched: 0, text, injection: injection.clone() };
        self.rules.push(rule);
        injection
    }

    /// Decides on one call: returns the fault of the first rule that has one for the call. Every rule
    /// that `matches` counts the call.
    pub(super) fn decide(&mut self, matches: impl Fn(&T) -> bool) -> Option<F> {
        self.rules.retain(|rule| !rule.is_lifted());
        let mut decided = None;
        for rule in self.rules.iter_mut().filter(|rule| matches(&rule.target)) {
            rule.matched += 1;
            if decided.is_none() && rule.calls.take(rule.matched) {
                rule.injection.progress.hits.fetch_add(1, Ordering::AcqRel);
                decided = Some(rule.fault.clone());
            }
        }
        decided
    }

    /// Returns the texts of the rules that no call has met so far.
    pub(super) fn unused(&self) -> Vec<String> {
        let unused =
            self.rules.iter().filter(|rule| !rule.is_lifted() && rule.injection.hits() == 0);
        unused.map(|rule| rule.text.clone()).collect()
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.rules.iter().filter(|rule| !rule.is_lifted()).count()
    }
}

impl<T, F> Rule<T, F> {
    fn is_lifted(&self) -> bool {
        self.injection.progress.lifted.load(Ordering::Acquire)
    }
}

impl Calls {
    /// Returns the words for these calls.
    pub(super) fn words(self) -> String {
        match self {
            Self::Nth(nth) => format!("call {nth}"),
            Self::First(most) => format!("the first {most} calls"),
            Self::All => "all calls".to_owned(),
            Self::Share(seed, share) => format!("a share of {share} of the calls, {seed:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decides on `calls` calls that match every rule.
    fn decisions(rules: &mut Rules<&str, u32>, calls: usize) -> Vec<Option<u32>> {
        (0..calls).map(|_| rules.decide(|_| true)).collect()
    }

    fn add(rules: &mut Rules<&'static str, u32>, calls: Calls, fault: u32) -> Injection {
        rules.add("a", calls, fault, format!("{fault}"))
    }

    #[test]
    fn a_rule_has_its_calls_and_no_others() {
        for (calls, wanted) in [
            (Calls::Nth(2), [None, Some(1), None, None]),
            (Calls::First(2), [Some(1), Some(1), None, None]),
            (Calls::First(0), [None; 4]),
            (Calls::All, [Some(1); 4]),
        ] {
            let mut rules = Rules::default();
            let injection = add(&mut rules, calls, 1);
            assert_eq!(decisions(&mut rules, 4), wanted, "{calls:?}");
            assert_eq!(injection.hits(), wanted.iter().flatten().count() as u64);
        }
    }

    #[test]
    fn the_first_rule_of_a_call_decides_and_the_others_count_it_too() {
        let mut rules = Rules::default();
        let (first, second) =
            (add(&mut rules, Calls::Nth(1), 1), add(&mut rules, Calls::First(2), 2));
        let third = add(&mut rules, Calls::Nth(3), 3);
        assert_eq!(decisions(&mut rules, 4), [Some(1), Some(2), Some(3), None]);
        assert_eq!([first, second, third].map(|rule| rule.hits()), [1, 1, 1]);
    }

    #[test]
    fn a_rule_counts_from_when_it_was_added_and_only_calls_that_match() {
        let mut rules = Rules::default();
        add(&mut rules, Calls::Nth(100), 1);
        decisions(&mut rules, 5);
        rules.add("b", Calls::Nth(2), 2, String::new());
        let mut decide = |name: &str| rules.decide(|target| *target == name);
        assert_eq!(["a", "b", "a", "b", "b"].map(&mut decide), [None, None, None, Some(2), None]);
    }

    #[test]
    fn a_lifted_rule_decides_nothing() {
        let mut rules = Rules::default();
        let (first, second) = (add(&mut rules, Calls::All, 1), add(&mut rules, Calls::All, 2));
        assert_eq!(decisions(&mut rules, 1), [Some(1)]);
        first.lift();
        assert_eq!(decisions(&mut rules, 1), [Some(2)]);
        assert_eq!((first.hits(), second.hits(), rules.len()), (1, 1, 1));
        rules.clear();
        assert_eq!((decisions(&mut rules, 1), second.hits()), (vec![None], 1));
    }

    #[test]
    fn unused_rules_are_those_that_no_call_met() {
        let mut rules = Rules::default();
        add(&mut rules, Calls::Nth(1), 1);
        add(&mut rules, Calls::Nth(3), 3);
        add(&mut rules, Calls::All, 4).lift();
        assert_eq!(rules.unused(), ["1", "3"]);
        decisions(&mut rules, 2);
        assert_eq!(rules.unused(), ["3"]);
    }

    #[test]
    fn a_share_is_the_same_for_the_same_seed_and_about_as_large_as_asked() {
        let drawn = |seed, share| {
            let mut rules = Rules::default();
            add(&mut rules, Calls::Share(Seed::new(seed), share), 1);
            decisions(&mut rules, 10_000)
        };
        assert_eq!(drawn(7, 0.2), drawn(7, 0.2));
        assert_ne!(drawn(7, 0.2), drawn(8, 0.2));
        let hits = drawn(7, 0.2).iter().flatten().count();
        assert!((1_800..2_200).contains(&hits), "{hits}");
        assert_eq!(drawn(7, 0.0).iter().flatten().count(), 0);
        assert_eq!(drawn(7, 1.0).iter().flatten().count(), 10_000);
    }

    /// Another rule for the same calls changes no draw.
    #[test]
    fn the_draws_of_a_rule_do_not_depend_on_others() {
        let alone = {
            let mut rules = Rules::default();
            let share = add(&mut rules, Calls::Share(Seed::new(7), 0.5), 1);
            decisions(&mut rules, 100);
            share.hits()
        };
        let mut rules = Rules::default();
        add(&mut rules, Calls::Share(Seed::new(8), 0.0), 2);
        let share = add(&mut rules, Calls::Share(Seed::new(7), 0.5), 1);
        decisions(&mut rules, 100);
        assert_eq!(share.hits(), alone);
    }
}
