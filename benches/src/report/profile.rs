//! Where the instructions of a path go: the profile of a part of callgrind's output.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::cells::{line, table};
use super::figures::Table;
use crate::patterns::{BUTTRESS, FLOOR};

/// The instructions of each source file, inlined code counted where it was written.
pub type Profile = BTreeMap<String, f64>;

/// A file with a smaller share of a path is counted as "the rest".
const SMALLEST: f64 = 0.03;

/// Names that callgrind writes in full once, and later as a number.
#[derive(Default)]
struct Names<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Names<'a> {
    /// Returns the name in a field such as `(3) state.rs`, `(3)` or `state.rs`.
    fn read(&mut self, field: &'a str) -> &'a str {
        let Some((number, name)) = field.strip_prefix('(').and_then(|it| it.split_once(')')) else {
            return field;
        };
        match name.trim_start() {
            "" => self.0.get(number).copied().unwrap_or(field),
            name => {
                self.0.insert(number, name);
                name
            }
        }
    }
}

/// Reads the profile of a part that contains `calls` calls.
pub fn read(part: &str, calls: f64) -> Profile {
    let (mut files, mut objects) = (Names::default(), Names::default());
    let (mut file, mut object) = ("", "");
    let mut counts = BTreeMap::<String, u64>::new();
    // The line after `calls=` has the cost of the called function, which is counted where it stands.
    let mut called = false;
    for row in part.lines() {
        if row.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost =
                row.split_ascii_whitespace().nth(1).and_then(|cost| cost.parse::<u64>().ok());
            if !std::mem::take(&mut called) {
                *counts.entry(source(file, object)).or_default() += cost.unwrap_or(0);
            }
            continue;
        }
        let Some((key, field)) = row.split_once('=') else { continue };
        match key {
            "fl" | "fi" | "fe" => file = files.read(field),
            "cfi" | "cfl" => drop(files.read(field)),
            "ob" => object = objects.read(field),
            "cob" => drop(objects.read(field)),
            "calls" => called = true,
            _ => {}
        }
    }
    counts.into_iter().map(|(source, count)| (source, count as f64 / calls)).collect()
}

/// Returns the short name of a source file, or of the object if it has no known source.
fn source(file: &str, object: &str) -> String {
    let after = |marker: &str| file.rsplit_once(marker).map(|(_, rest)| rest);
    if file.is_empty() || file == "???" {
        return object.rsplit('/').next().unwrap_or(object).to_owned();
    }
    let named =
        if let Some((_, of_crate)) = after("/registry/src/").and_then(|it| it.split_once('/')) {
            of_crate.to_owned()
        } else if let Some(of_ours) = after("/library/").or_else(|| after("/crates/")) {
            of_ours.to_owned()
        } else if let Some(of_benchmark) = after("/benches/") {
            format!("benchmark/{of_benchmark}")
        } else {
            file.rsplit('/').next().unwrap_or(file).to_owned()
        };
    named.replacen("/src/", ": ", 1)
}

/// Writes the profiles of `rows`.
pub(super) fn section(text: &mut String, all: &Table, rows: &[&str]) {
    let of = |row, who| all.get(row, who).map(|figures| &figures.profile);
    let known = rows.iter().filter(|row| of(row, BUTTRESS).is_some_and(|it| !it.is_empty()));
    let known: Vec<&str> = known.copied().collect();
    if known.is_empty() {
        return;
    }
    *text += "\nThe profiles of these paths, in instructions per call by the file of the source, wherever the compiler \
              put the code. Files with less than 3 in 100 are the rest:\n\n";
    table(text, &["path", "source", "buttress", "floor"]);
    for row in known {
        let (ours, none) = (of(row, BUTTRESS).cloned().unwrap_or_default(), Profile::new());
        let theirs = of(row, FLOOR).unwrap_or(&none);
        let mut path = row;
        for (source, fields) in lines(&ours, theirs) {
            let [ours, theirs] = fields.map(|count| format!("{count:.0}"));
            line(text, &[std::mem::take(&mut path).to_owned(), source, ours, theirs]);
        }
    }
    let _ = writeln!(text);
}

/// Returns the files of both profiles, the largest of `ours` first, and the sum of the small ones last.
fn lines(ours: &Profile, theirs: &Profile) -> Vec<(String, [f64; 2])> {
    let total: f64 = ours.values().sum();
    let mut all = BTreeMap::<&str, [f64; 2]>::new();
    for (who, profile) in [ours, theirs].into_iter().enumerate() {
        for (source, count) in profile {
            if let Some(field) = all.entry(source).or_default().get_mut(who) {
                *field += count;
            }
        }
    }
    let is_large = |counts: &[f64; 2]| counts.iter().any(|count| *count >= total * SMALLEST);
    let (large, small): (Vec<_>, Vec<_>) = all
        .into_iter()
        .map(|(source, counts)| (source.to_owned(), counts))
        .partition(|it| is_large(&it.1));
    let mut lines = large;
    lines.sort_by(|(_, one), (_, other)| other[0].total_cmp(&one[0]));
    if !small.is_empty() {
        let sum = |who: usize| small.iter().filter_map(|(_, counts)| counts.get(who)).sum::<f64>();
        lines.push(("the rest".to_owned(), [sum(0), sum(1)]));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: &str = "events: Ir\nfl=(1) /home/a/crates/buttress/src/retry/state.rs\nfn=(1) run\nob=(1) /bin/program\n\
        12 30\n+2 5\nfi=(2) /rustc/1/library/core/src/sync/atomic.rs\n9 10\nfe=(1)\n15 1\ncob=(2) /lib/libc.so.6\n\
        cfi=(3) ???\ncfn=(2) clock\ncalls=100 0\n16 9000\n\nob=(2)\nfl=(3)\nfn=(2)\n0 54\n\ntotals: 100\n";

    #[test]
    fn each_instruction_counts_once_where_it_was_written() {
        let profile = read(PART, 10.0);
        let expected =
            [("buttress: retry/state.rs", 3.6), ("core: sync/atomic.rs", 1.0), ("libc.so.6", 5.4)];
        let expected: Profile = expected.map(|(name, count)| (name.to_owned(), count)).into();
        assert_eq!(profile, expected);
        assert_eq!(profile.values().sum::<f64>(), 10.0, "the total of the part");
    }

    #[test]
    fn a_source_has_the_name_of_its_crate() {
        let cases = [
            (
                "/r/registry/src/index-1/tokio-1.54.1/src/time/sleep.rs",
                "tokio-1.54.1: time/sleep.rs",
            ),
            ("/home/a/benches/src/floors/retry.rs", "benchmark: floors/retry.rs"),
            ("./time/../sysdeps/unix/clock_gettime.c", "clock_gettime.c"),
            ("???", "program"),
        ];
        for (file, name) in cases {
            assert_eq!(source(file, "/bin/program"), name);
        }
    }

    #[test]
    fn small_files_are_summed() {
        let profile = |counts: &[(&str, f64)]| -> Profile {
            counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let ours = profile(&[("a", 10.0), ("b", 89.0), ("c", 0.5), ("d", 0.5)]);
        let theirs = profile(&[("a", 2.0), ("e", 3.0), ("c", 1.0)]);
        let expected =
            [("b", [89.0, 0.0]), ("a", [10.0, 2.0]), ("e", [0.0, 3.0]), ("the rest", [1.0, 1.0])];
        assert_eq!(lines(&ours, &theirs), expected.map(|(name, counts)| (name.to_owned(), counts)));
    }
}
