//! Numbers in a readable format.

use std::time::Duration;

use crate::{Outcome, PhaseKind, Recovery, Trigger};

/// Formats a time with three significant digits and a unit.
pub(super) fn time(time: Duration) -> String {
    let nanos = time.as_nanos() as f64;
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")];
    let (size, unit) = *units.iter().find(|(size, _)| nanos >= *size).unwrap_or(&(1e9, "s"));
    format!("{} {unit}", number(nanos / size))
}

/// Formats a number with three significant digits, and large numbers in thousands.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    let (value, suffix) = match size {
        s if s >= 999_500_000.0 => (value / 1e9, " G"),
        s if s >= 999_500.0 => (value / 1e6, " M"),
        s if s >= 9_995.0 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        v if v >= 99.95 || v == 0.0 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{suffix}")
}

/// Formats a quantile of the latency of all requests, or says that too few succeeded.
pub(super) fn of_all(outcome: &Outcome, q: f64) -> String {
    outcome.quantile_of_all(q).map_or_else(|| "unanswered".to_owned(), time)
}

/// Formats a share in percent.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        p if p > 0.0 && p < 0.05 => "<0.1 %".to_owned(),
        p if p < 100.0 && p > 99.95 => ">99.9 %".to_owned(),
        p if p >= 99.95 || p == 0.0 => format!("{p:.0} %"),
        p => format!("{p:.1} %"),
    }
}

/// Formats a quantile of the latency of the successful requests, or a dash if there are none.
pub(super) fn of_ok(outcome: &Outcome, q: f64) -> String {
    let latency = outcome.latency();
    if latency.count() == 0 { NONE.to_owned() } else { time(latency.quantile(q)) }
}

/// The sign for a missing value.
const NONE: &str = "–";

/// Describes the recovery after the last fault of the run. A dash if the run had no fault.
pub(super) fn after_the_fault(outcome: &Outcome) -> String {
    if outcome.faults().is_empty() {
        return NONE.to_owned();
    }
    let recoveries = outcome.recoveries();
    let last = recoveries.iter().rposition(|recovery| recovery.trigger == Trigger::Fault);
    let since = last.and_then(|last| recoveries.get(last..)).unwrap_or_default();
    let back = |recovery: &Recovery| {
        let ended = since.first()?.trigger_ended;
        Some((recovery.trigger_ended + recovery.after?).saturating_sub(ended))
    };
    match (since.iter().find_map(back), outcome.ended_in()) {
        (Some(Duration::ZERO), _) => "back immediately".to_owned(),
        (Some(after), _) => format!("back after {}", time(after)),
        (None, _) if since.is_empty() => "lasts to the end".to_owned(),
        (None, PhaseKind::Metastable) => "stays down".to_owned(),
        (None, _) => "not back yet".to_owned(),
    }
}
