//! The tables of targets, and the reasons for missed targets.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::cells::{digits, line, or_none, ratio, table, yes_or_no};
use super::missed::reason;
use super::profile;
use super::results::Results;
use super::targets::{
    COUNTED, COUNTING_ON_TWO, FIRST_ATTEMPT, INSTRUCTIONS, SCOPED, SECOND_POLL, TENTH, Target,
    best_peer, others,
};
use crate::patterns::{BUTTRESS, FLOOR, context, retry, stack, time_limit};

/// Each target, and whether it was reached, if that is known.
type Reached = Vec<(String, Option<bool>)>;

/// Writes the targets. Returns the targets that are missed for no known reason, and those that were
/// not measured although they could have been.
pub(super) fn targets(text: &mut String, results: &Results) -> Vec<String> {
    let mut all = Reached::new();
    *text += "\n## Targets\n\nInstructions per call:\n\n";
    let columns = ["path", "buttress", "floor", "cheapest peer", "target", "measured", "reached"];
    table(text, &columns);
    for target in &INSTRUCTIONS {
        all.push((target.row.name.to_owned(), instructions(text, results, target)));
    }
    *text += "\nEverything else:\n\n";
    table(text, &["what", "target", "measured", "reached"]);
    for judged in others(results) {
        all.push((judged.what.clone(), judged.reached));
        let reached = yes_or_no(judged.reached).to_owned();
        line(text, &[judged.what, judged.target, judged.measured, reached]);
    }
    why_missed(text, &all);
    profiles(text, results, &all);
    let wrong = all.iter().filter_map(|(what, reached)| match reached {
        Some(false) if reason(what).is_none() => Some(format!("{what}: missed without a reason")),
        None if results.valgrind.is_some() => Some(format!("{what}: not measured")),
        _ => None,
    });
    wrong.collect()
}

fn instructions(text: &mut String, results: &Results, target: &Target) -> Option<bool> {
    let row = target.row.name;
    let of = |who| results.table.get(row, who).and_then(|figures| figures.instructions);
    let (ours, theirs) = (of(BUTTRESS), of(target.of));
    let peer = best_peer(results, row).map(|(name, cost)| format!("{name} {cost:.0}"));
    let reached = ours.zip(theirs).map(|(ours, theirs)| ours <= theirs * target.times);
    let fields = [
        row.to_owned(),
        digits(ours, 0),
        digits(of(FLOOR), 0),
        or_none(peer),
        format!("{}x {}", target.times, target.of),
        ratio(ours, theirs),
        yes_or_no(reached).to_owned(),
    ];
    line(text, &fields);
    reached
}

/// Writes the profiles of the paths whose targets are missed.
fn profiles(text: &mut String, results: &Results, all: &Reached) {
    let missed = all.iter().filter(|(_, reached)| *reached == Some(false));
    let mut paths: Vec<&str> = missed.map(|(what, _)| path(what)).collect();
    let mut seen = BTreeSet::new();
    paths.retain(|path| seen.insert(*path));
    profile::section(text, &results.table, &paths);
}

/// Returns the path whose profile belongs to a target: for a time, the path that takes it.
fn path(what: &str) -> &str {
    let timed = [
        (SECOND_POLL, time_limit::PENDING),
        (FIRST_ATTEMPT, retry::FIRST),
        (SCOPED, context::MADE),
        (TENTH, stack::SIX),
        (COUNTED, stack::COUNTED),
        (COUNTING_ON_TWO, stack::COUNTED),
    ];
    timed.iter().find(|(name, _)| *name == what).map_or(what, |(_, row)| row.name)
}

fn why_missed(text: &mut String, all: &Reached) {
    let missed: Vec<_> = all.iter().filter(|(_, reached)| *reached == Some(false)).collect();
    if missed.is_empty() {
        return;
    }
    *text += "\nWhy a target is missed, and what would reach it:\n\n";
    for (what, _) in missed {
        let reason = reason(what).unwrap_or("Not known; look at its profile.");
        let _ = writeln!(text, "- *{what}*: {reason}");
    }
}
