//! The allowed imports, checked in the sources:
//! `composites and orchestrators -> patterns -> machinery -> vocabulary -> root files`, and inside
//! each of these folders the levels of [`LEVELS`]. Also the files that may read
//! the time, and the files that may spawn.

mod kafka_client;
pub(crate) mod sources;

use std::collections::BTreeSet;

use sources::{File, Path, read_all};

const PATTERNS: [&str; 8] = [
    "bulkhead",
    "circuit_breaker",
    "discover",
    "fallback",
    "idempotency",
    "rate_limit",
    "retry",
    "time_limit",
];
/// Composites and orchestrators.
const COMPOSITES: [&str; 15] = [
    "aggregate",
    "balance",
    "bus",
    "consume",
    "dispatch",
    "event",
    "event_store",
    "gateway",
    "health",
    "outbox",
    "registry",
    "saga",
    "shadow",
    "sidecar",
    "split",
];
/// The table of contents.
const ABOVE_ALL: [&str; 1] = ["lib"];
/// Functions that only `clock.rs` may call.
const TIME: [&str; 8] = [
    "Instant::now",
    "SystemTime::now",
    ".elapsed()",
    "tokio::time::sleep",
    "tokio::time::timeout",
    "tokio::time::interval",
    "thread::sleep",
    "tokio::time::Instant",
];

/// The levels of the files of each folder, the lowest first. A file may import its own level and those below.
/// Where two files share a level, they import each other, or neither imports the other. The files of a folder
/// inside of these folders have the level of that folder.
const LEVELS: [(&str, &str); 28] = [
    (
        "vocabulary",
        "causes words < clock codec cost duration_text id instrument invalid_config mode name rng setters spawn store_error
         < metric_names < error < classify pattern reject < event_counters observe reading until < mod",
    ),
    (
        "machinery",
        "caught cloned counters ended guard key_map keyed own queue reconfigure share wakers window
         < instances limited oneshot published < waiting < backpressure queued < mod",
    ),
    (
        "aggregate",
        "config state < shared < missing < part < list < future handle < builder service < reading < mod",
    ),
    ("bulkhead", "config < state < shared < handle < service < layer < keyed < reading < mod"),
    (
        "circuit_breaker",
        "config < state < admission shared < changed future < handle < service < backpressure renewal
         < layer < keyed < reading < mod",
    ),
    ("fallback", "config recover < shared < future handle < service < layer < reading < mod"),
    (
        "idempotency",
        "bounded config key outage tape < store < identity < backend encoded owner state < memory waiters
         < tasks < holding shared < handle owning settle transactional < renewal < running < detached handler
         < call future < service < layer < reading < mod",
    ),
    (
        "rate_limit",
        "config < state < shared tokens < handle < service < layer < keyed < reading < mod",
    ),
    (
        "retry",
        "backoff budget clone_request < config document < state < shared < again < future handle
         < service < layer < reading < mod",
    ),
    (
        "time_limit",
        "config limit state < countdown future shared < handle < service < layer < reading < mod",
    ),
    (
        "sidecar",
        "attempt config handle optional < admitting future gate judge < service < layer < reading < mod",
    ),
    ("discover", "instance < resolve < file fixed < mod"),
    (
        "balance",
        "outliers tried < config history penalty request_key < state < choice < shared endpoints < rules seat waiting < future handle
         < resolving < service < reading < mod",
    ),
    ("gateway", "backends future handle observer route < service < reading < mod"),
    (
        "health",
        "config finding report < state < check < shared < run < handle < reading watched < mod",
    ),
    (
        "shadow",
        "compare state < config < shared < mirror < future handle < service < reading < mod",
    ),
    (
        "split",
        "config judge key state < fall_back force shared < future handle < service < reading < mod",
    ),
    ("registry", "document < instances mod"),
    ("telemetry", "durations sampler < mod"),
    ("context", "correlation priority trace < carried current mod scoped"),
    (
        "outbox",
        "config message stats < inbox store < backlog_check boxed counted_inbox memory monitor state writer < deliver
         < reading relay running < frame mod tests",
    ),
    ("dispatch", "error < registered < future < handler < builder bus < mod"),
    ("bus", "error < pattern < publish state stats subscribe < mod"),
    (
        "consume",
        "content < delivery letter rejected source stats < dead_letters < memory monitor replays state < config < consumer handle handling running
         < reading watched < mod tests",
    ),
    (
        "event",
        "attributes error id percent timestamp < binding cause domain < envelope < decode encode events receive < mod tests",
    ),
    (
        "event_store",
        "stream < batch checkpoint < recorded < decoder store < aggregate boxed log memory < projection repository < commands < mod tests",
    ),
    (
        "saga",
        "model < store < barrier boxed error history memory monitor reasons config counted_barrier define report run
         < reading < mod tests",
    ),
    // The lock is built of the atomics that its parent chooses.
    ("sync", "seqlock mod"),
];

/// The level of a file in its folder; `None` if the folder has no levels, or does not name the file.
fn level(folder: &str, file: &str) -> Option<usize> {
    let (_, levels) = LEVELS.iter().find(|(name, _)| *name == folder)?;
    levels.split('<').position(|level| level.split_whitespace().any(|name| name == file))
}

fn violations(file: &File, all: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    let says = |what: String| format!("{}: {what}", file.name());
    let module = file.module.as_slice();
    let home = module.first().map_or("lib", String::as_str);
    for path in &file.paths {
        let Some(target) = path.segments.first().map(String::as_str) else { continue };
        let is_pattern = PATTERNS.contains(&target);
        let is_composite = COMPOSITES.contains(&target);
        if target == home && LEVELS.iter().any(|(folder, _)| *folder == home) {
            found.extend(upward(file, path, all).map(says));
        } else if PATTERNS.contains(&home) && (is_pattern || is_composite) {
            found.push(says(format!("a pattern imports {path}")));
        } else if COMPOSITES.contains(&home) && is_pattern && is_private(path, all) {
            found.push(says(format!("not a public item of a pattern: {path}")));
        } else if home == "vocabulary" && target == "machinery" {
            found.push(says(format!("the vocabulary imports {path}")));
        } else if !ABOVE_ALL.contains(&home)
            && !COMPOSITES.contains(&home)
            && (is_pattern || is_composite)
        {
            found.push(says(format!("a root file imports {path}")));
        }
    }
    let own = module.get(1).map_or("mod", String::as_str);
    if LEVELS.iter().any(|(folder, _)| *folder == home) && level(home, own).is_none() {
        found.push(says(format!("{own} has no level: name it in LEVELS")));
    }
    let place = match home {
        "vocabulary" => module.get(1).map_or(home, String::as_str),
        _ => home,
    };
    if place != "clock" {
        let used = TIME.iter().filter(|time| file.code.contains(*time));
        found.extend(used.map(|time| says(format!("reads or waits on time: {time}"))));
    }
    let is_test = module.iter().any(|part| part == "tests");
    if place != "spawn" && !is_test && file.code.contains("tokio::spawn") {
        found.push(says("spawns".to_owned()));
    }
    found
}

/// Returns an import of a file on a higher level of the same folder.
fn upward(file: &File, path: &Path, all: &[File]) -> Option<String> {
    let own = file.module.get(1).map_or("mod", String::as_str);
    let target = path.segments.get(1).map(String::as_str)?;
    let is_file = all.iter().any(|other| other.module == path.segments[..2]);
    let target = if is_file { target } else { "mod" };
    let folder = file.module.first()?;
    let (from, to) = (level(folder, own)?, level(folder, target)?);
    (to > from).then(|| format!("{own} imports {target}: {path}"))
}

/// Whether a path goes through one of the files of a pattern instead of its `mod.rs`.
fn is_private(path: &Path, all: &[File]) -> bool {
    path.segments.len() > 2 && all.iter().any(|file| file.module == path.segments[..2])
}

#[test]
fn no_import_points_upward_and_only_the_clock_reads_time() {
    let all = read_all();
    let homes: BTreeSet<_> = all.iter().filter_map(|file| file.module.first()).collect();
    for pattern in PATTERNS {
        assert!(homes.contains(&pattern.to_owned()), "{pattern} was not read");
    }
    let found: Vec<_> = all.iter().flat_map(|file| violations(file, &all)).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The traits whose implementations have one letter as type parameters; DESIGN.md has the meanings.
const LETTERS: [(&str, &str); 10] = [
    ("Reject", "R"),
    ("Identify", "X"),
    ("Cost", "W"),
    ("Rules", "P"),
    ("Own", "O"),
    ("CloneRequest", "Q"),
    ("Form", "M"),
    ("Tape", "T"),
    ("Recover", "F"),
    ("Until", "U"),
];

/// The bounds of a type parameter by one of these traits whose letter is another one.
fn wrong_letters(code: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let bound = |(at, _): (usize, &str)| {
        let head = &code[..at];
        let begin = head.rfind(|c| !is_name(c)).map_or(0, |before| before + 1);
        let name = code[at + 2..].split(|c| !is_name(c)).next().unwrap_or_default();
        (&head[begin..], name)
    };
    let bounds = code.match_indices(": ").map(bound);
    let wrong = bounds.filter(|(given, name)| {
        let is_parameter = given.starts_with(|c: char| c.is_ascii_uppercase()) && given.len() < 3;
        let letter = LETTERS.iter().find(|(known, _)| known == name);
        is_parameter && letter.is_some_and(|(_, letter)| !given.starts_with(letter))
    });
    wrong.map(|(given, name)| format!("{given}: {name}")).collect()
}

#[test]
fn a_letter_has_one_meaning() {
    assert_eq!(
        wrong_letters("impl<S, A: Reject<Res, E>> X for Y where R: Reject<Res, E>"),
        ["A: Reject"]
    );
    assert_eq!(wrong_letters("where O: Own, R2: Reject<A, B>, handle: Cost"), [""; 0]);
    for file in read_all() {
        assert_eq!(wrong_letters(&file.code), [""; 0], "{}", file.name());
    }
}

#[test]
fn the_checker_sees_what_is_wrong() {
    let file = |path: &str, text: &str| File::parse(path, text);
    let mut all = vec![
        file("retry/mod.rs", ""),
        file("retry/layer.rs", ""),
        file("retry/state.rs", ""),
        file("retry/backoff.rs", ""),
        file("retry/config.rs", ""),
        file("bulkhead/mod.rs", ""),
        file("bulkhead/handle.rs", ""),
        file("sidecar/layer.rs", ""),
    ];
    let wrong = [
        ("vocabulary/error.rs", "use crate::retry::Config;", "a root file imports retry::Config"),
        ("machinery/keyed.rs", "use crate::{clock, sidecar::X};", "a root file imports sidecar::X"),
        ("retry/service.rs", "use crate::bulkhead::Permit;", "a pattern imports bulkhead::Permit"),
        ("retry/state.rs", "use crate::registry;", "a pattern imports registry"),
        ("retry/config.rs", "#[serde(with = \"crate::registry::text\")]", "a pattern imports"),
        ("retry/state.rs", "use super::layer::RetryLayer;", "state imports layer"),
        (
            "retry/config.rs",
            "use super::{backoff::Backoff, state::Policy};",
            "config imports state",
        ),
        ("retry/state.rs", "use super::RetryLayer;", "state imports mod"),
        ("retry/state/plan.rs", "use super::super::layer::X;", "state imports layer"),
        ("retry/state.rs", "use crate::retry::layer::X;", "state imports layer"),
        ("sidecar/gate.rs", "use crate::{error, bulkhead::handle::Shared};", "not a public item"),
        ("retry/state.rs", "let now = Instant::now();", "reads or waits on time"),
        ("machinery/queue.rs", "tokio::time::sleep_until(at)", "reads or waits on time"),
        ("saga/run.rs", "tokio::spawn(task)", "spawns"),
        ("vocabulary/name.rs", "use crate::machinery::queue::X;", "the vocabulary imports"),
        ("retry/budget.rs", "use super::state::Policy;", "budget imports state"),
        ("sidecar/judge.rs", "use super::layer::SidecarLayer;", "judge imports layer"),
        ("retry/mystery.rs", "", "mystery has no level"),
    ];
    for (path, text, expected) in wrong {
        let file = file(path, text);
        let found = violations(&file, &all);
        assert!(found.len() == 1 && found[0].contains(expected), "{path}: {text}: {found:?}");
    }
    let right = [
        ("lib.rs", "pub use retry::RetryLayer; pub use crate::retry::Config;"),
        ("retry/mod.rs", "mod state; pub use layer::RetryLayer;"),
        ("retry/layer.rs", "use super::state::State;\nuse crate::error::{Error, check};"),
        ("retry/again.rs", "use super::config::Config;"),
        ("retry/handle.rs", "use super::future::Limited;"),
        ("sidecar/gate.rs", "use crate::retry::{self, Config};\nuse crate::bulkhead;"),
        ("retry/state.rs", "// use crate::bulkhead::Permit;\n/// Not `Instant::now`.\n"),
        ("retry/state.rs", "#[cfg(test)]\nmod tests { use crate::bulkhead::X; }"),
        ("vocabulary/clock.rs", "tokio::time::Instant::now()"),
        ("vocabulary/spawn.rs", "tokio::spawn(task)"),
        ("saga/config.rs", "use crate::retry::Backoff;"),
    ];
    all.push(file("retry/future.rs", ""));
    for (path, text) in right {
        assert_eq!(violations(&file(path, text), &all), [""; 0], "{path}: {text}");
    }
}
