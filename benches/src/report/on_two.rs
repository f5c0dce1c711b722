//! The cost of a second thread: the time of a call on two threads relative to one thread, and to
//! tower's.

use super::cells::or_none;
use super::figures::Table;
use super::targets::Judged;
use crate::patterns::stack::{CLONED, LEAKED, LEAKED_CLONED, SIX, TOWERS_FOUR};
use crate::patterns::{BUTTRESS, fallback, retry, time_limit};
use crate::row::Row;
use crate::spread::Spread;

pub(super) const FALLBACK: &str = "fallback: time on two threads over one";
pub(super) const RETRY: &str = "retry: time on two threads over one";
pub(super) const LIMIT: &str = "time limit: time on two threads over one";
pub(super) const CALL: &str = "six layers: time of a call on two threads over tower's four";
pub(super) const CLONE: &str = "six layers: time of a clone on two threads over tower's four";
const LEAKED_CALL: &str = "six layers, leaked: time of a call on two threads over tower's four";
const LEAKED_CLONE: &str = "six layers, leaked: time of a clone on two threads over tower's four";

/// The allowed cost of a second thread for a layer without decisions.
const TIMES: f64 = 1.2;

/// Rounds on two cores vary by more than the difference in question. So a miss is only what three
/// quarters of the rounds show.
pub(super) fn judged(all: &Table) -> Vec<Judged> {
    let over_one =
        [(FALLBACK, fallback::PRIMARY), (RETRY, retry::FIRST), (LIMIT, time_limit::READY)];
    let over_tower =
        [(CALL, SIX), (CLONE, CLONED), (LEAKED_CALL, LEAKED), (LEAKED_CLONE, LEAKED_CLONED)];
    let over_one = over_one.map(|(what, row)| judge(what, TIMES, over_one_thread(all, row)));
    let over_tower = over_tower.map(|(what, row)| judge(what, 1.0, over_towers(all, row)));
    over_one.into_iter().chain(over_tower).collect()
}

fn judge(what: &str, most: f64, spread: Option<Spread>) -> Judged {
    let show = |spread: Spread| {
        let Spread { lower, median, upper } = spread;
        format!("{median:.2} [{lower:.2}, {upper:.2}]")
    };
    Judged {
        what: what.to_owned(),
        target: format!("at most {most}; missed if the lower quartile is above"),
        measured: or_none(spread.map(show)),
        reached: spread.map(|spread| spread.lower <= most),
    }
}

fn over_one_thread(all: &Table, row: Row) -> Option<Spread> {
    let figures = all.get(row.name, BUTTRESS)?;
    let one = figures.nanos?;
    Spread::of(figures.nanos_of_two.iter().flatten().map(|two| two / one))
}

/// The ratio over the rounds in which both count.
fn over_towers(all: &Table, row: Row) -> Option<Spread> {
    let [ours, theirs] =
        [BUTTRESS, TOWERS_FOUR].map(|who| all.get(row.name, who).map(|f| &f.nanos_of_two));
    let pairs = ours?.iter().zip(theirs?);
    Spread::of(pairs.filter_map(|(ours, theirs)| Some((*ours)? / (*theirs)?)))
}

#[cfg(test)]
mod tests {
    use super::{CALL, FALLBACK, judged};
    use crate::patterns::stack::{SIX, TOWERS_FOUR};
    use crate::patterns::{BUTTRESS, fallback};
    use crate::report::figures::Table;

    fn reached(all: &Table, what: &str) -> Option<bool> {
        let judged = judged(all);
        judged.iter().find(|judged| judged.what == what).and_then(|judged| judged.reached)
    }

    #[test]
    fn a_second_thread_that_costs_a_quarter_more_is_too_much() {
        for (two, expected) in [(2.4, true), (2.5, false)] {
            let mut all = Table::default();
            let figures = all.entry(fallback::PRIMARY.name, BUTTRESS);
            figures.nanos = Some(2.0);
            figures.nanos_of_two = vec![Some(two); 9];
            assert_eq!(reached(&all, FALLBACK), Some(expected), "{two} ns");
        }
        assert_eq!(reached(&Table::default(), FALLBACK), None);
    }

    #[test]
    fn only_rounds_in_which_both_count_are_compared_with_tower() {
        let mut all = Table::default();
        all.entry(SIX.name, BUTTRESS).nanos_of_two = [Some(100.0), None, Some(300.0)].repeat(5);
        all.entry(SIX.name, TOWERS_FOUR).nanos_of_two = [Some(110.0), Some(1.0), None].repeat(5);
        assert_eq!(reached(&all, CALL), Some(true));
    }
}
