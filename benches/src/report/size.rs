//! The size of layers: the length of a stripped program with them, minus the length of a program
//! without them.

use super::cells::{count, line, table};
use super::figures::Table;
use super::programs::stripped;
use super::targets::{Judged, at_most};
use crate::patterns::stack::{SIX, TOWERS_FOUR};
use crate::patterns::{BUTTRESS, FLOOR};
use crate::peers::TOWER_RESILIENCE;

/// The program without layers, the reference for the others.
const WITHOUT: &str = "size_bare";
/// Each candidate of the row of six layers, with the program that has only its layers.
const WITH: [(&str, &str); 4] = [
    (BUTTRESS, "size_six"),
    (FLOOR, "size_floor"),
    (TOWERS_FOUR, "size_towers_four"),
    (TOWER_RESILIENCE, "size_tower_resilience"),
];

/// Builds the programs of the candidates that `wanted` names, and writes their sizes into the table.
pub fn measure(table: &mut Table, wanted: impl Fn(&str) -> bool) {
    let with: Vec<_> = WITH.into_iter().filter(|(candidate, _)| wanted(candidate)).collect();
    let without = stripped(WITHOUT);
    for (candidate, program) in with {
        let beyond = stripped(program) as f64 - without as f64;
        table.entry(SIX.name, candidate).binary = Some(beyond);
    }
}

pub(super) const BINARY: &str = "six layers: bytes of a stripped program";
pub(super) const IDLE: &str = "six layers: bytes of heap before the first call";

pub(super) fn section(text: &mut String, all: &Table) {
    *text += "\n## Size of six layers\n\n";
    *text += "Bytes that the layers add to a stripped program with a runtime and one call, and bytes of heap that\n";
    *text += "one instance holds before its first call:\n\n";
    table(text, &["of", "program", "heap"]);
    for each in all.of_row(SIX.name).filter(|each| each.figures.binary.is_some()) {
        let bytes = [each.figures.binary, each.figures.idle].map(count);
        line(text, &[&[each.candidate.clone()][..], &bytes[..]].concat());
    }
}

pub(super) fn judged(all: &Table) -> [Judged; 2] {
    let ours = all.get(SIX.name, BUTTRESS);
    let binary = ours.and_then(|figures| figures.binary);
    let idle = ours.and_then(|figures| figures.idle);
    [
        at_most(BINARY, "at most 100 000", 100_000.0, binary, ""),
        at_most(IDLE, "at most 4 000", 4_000.0, idle, ""),
    ]
}
