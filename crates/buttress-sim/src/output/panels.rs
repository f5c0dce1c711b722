//! The charts of one outcome.

use std::time::Duration;

use buttress::CircuitState;

use super::axis::{Span, View, first_fault};
use super::chart::{Chart, Line, strip};
use super::figures::{number, time};
use super::html::escaped;
use crate::{Cause, FaultSpan, Outcome, PhaseKind};

pub(super) const PHASES: [(&str, &str); 4] = [
    ("stable", "stable"),
    ("overloaded", "overloaded"),
    ("recovering", "recovering"),
    ("metastable", "metastable"),
];

/// Draws every chart of an outcome, one below the other: of the whole run, and next to it around
/// the first fault.
pub(super) fn charts(outcome: &Outcome) -> String {
    let mut views = vec![View::whole(outcome)];
    let mut html = String::new();
    if let (Some(close_up), Some(fault)) = (View::close_up(outcome), first_fault(outcome)) {
        views.push(close_up);
        html = format!(
            "<div class=\"views heads\"><span>The whole run</span>\
             <span>Around the fault <i class=\"swatch block fault\"></i>{}</span></div>",
            escaped(&span_of(fault).title)
        );
    }
    html.push_str(&phases(outcome, &views));
    html.push_str(&goodput(outcome).figure(&views));
    html.push_str(&latency(outcome).figure(&views));
    html.push_str(&attempts(outcome).figure(&views));
    html.push_str(&circuits(outcome, &views));
    html.push_str(&gauges(outcome, &views));
    html
}

fn phases(outcome: &Outcome, views: &[View]) -> String {
    let spans: Vec<Span> = outcome
        .phases()
        .iter()
        .map(|phase| Span {
            from: phase.from,
            to: phase.to,
            class: phase.kind.as_str().to_owned(),
            title: format!(
                "{} from {} to {}",
                phase.kind.as_str(),
                time(phase.from),
                time(phase.to)
            ),
        })
        .collect();
    let present = |kind: &str| outcome.phases().iter().any(|phase| phase.kind.as_str() == kind);
    let keys: Vec<(&str, &str)> = PHASES.into_iter().filter(|(name, _)| present(name)).collect();
    strip("State", "", &spans, views, &keys)
}

fn goodput(outcome: &Outcome) -> Chart<'_> {
    let windows = outcome.windows();
    let offered = windows.iter().map(|w| w.offered_rate()).collect();
    let good = windows.iter().map(|w| w.goodput()).collect();
    plain(
        outcome,
        "Offered and goodput",
        "requests per second",
        vec![
            Line { name: "offered", class: "offered", values: offered, filled: false },
            Line { name: "goodput", class: "good", values: good, filled: true },
        ],
    )
}

fn latency(outcome: &Outcome) -> Chart<'_> {
    let quantile = |q: f64| -> Vec<f64> {
        outcome.windows().iter().map(|w| w.latency.quantile(q).as_secs_f64()).collect()
    };
    let lines = vec![
        Line { name: "p50", class: "p50", values: quantile(0.5), filled: false },
        Line { name: "p99", class: "p99", values: quantile(0.99), filled: false },
    ];
    let label = |seconds: f64| time(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    let title = "Latency of successful requests";
    Chart { logarithmic: true, label, ..plain(outcome, title, "logarithmic", lines) }
}

fn attempts(outcome: &Outcome) -> Chart<'_> {
    let rate = |count: u64, w: &crate::Window| w.rate(count);
    let attempts = outcome.windows().iter().zip(outcome.target_windows());
    let attempts = attempts.map(|(w, station)| rate(station.arrived, w)).collect();
    let retries: Vec<f64> = outcome.windows().iter().map(|w| rate(w.retries, w)).collect();
    let mut lines = vec![Line {
        name: "calls to the service",
        class: "calls",
        values: attempts,
        filled: false,
    }];
    if retries.iter().any(|rate| *rate > 0.0) {
        lines.push(Line { name: "retries", class: "retries", values: retries, filled: true });
    }
    let refused: Vec<f64> = outcome.windows().iter().map(refused).collect();
    if refused.iter().any(|rate| *rate > 0.0) {
        lines.push(Line {
            name: "requests refused",
            class: "refused",
            values: refused,
            filled: false,
        });
    }
    plain(outcome, "Calls and retries", "per second", lines)
}

fn refused(window: &crate::Window) -> f64 {
    let causes = [Cause::Open, Cause::Full, Cause::Limited];
    window.rate(causes.iter().map(|cause| window.ends.of(*cause)).sum())
}

fn circuits(outcome: &Outcome, views: &[View]) -> String {
    let keys = [("closed", "closed"), ("half-open", "half-open"), ("open", "open")];
    let mut html = String::new();
    for band in outcome.bands() {
        let ends = band.states.iter().skip(1).map(|(from, _)| *from).chain([outcome.duration()]);
        let spans: Vec<Span> = band
            .states
            .iter()
            .zip(ends)
            .map(|((from, state), to)| Span {
                from: *from,
                to,
                class: class(*state).to_owned(),
                title: format!("{state} from {} to {}", time(*from), time(to)),
            })
            .collect();
        html.push_str(&strip("Circuit", &band.name, &spans, views, &keys));
    }
    html
}

const fn class(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Open | CircuitState::ForcedOpen => "open",
        CircuitState::HalfOpen => "half-open",
        _ => "closed",
    }
}

fn gauges(outcome: &Outcome, views: &[View]) -> String {
    let mut html = String::new();
    for gauge in outcome.gauges() {
        let lines =
            vec![Line { name: "", class: "gauge", values: gauge.values.clone(), filled: true }];
        let chart = Chart { height: 56.0, ..plain(outcome, &gauge.name, "", lines) };
        html.push_str(&chart.figure(views));
    }
    html
}

fn plain<'a>(outcome: &Outcome, title: &'a str, unit: &'a str, lines: Vec<Line<'a>>) -> Chart<'a> {
    Chart {
        title,
        unit,
        height: 96.0,
        windows: outcome.windows().iter().map(|w| (w.start, w.start + w.length)).collect(),
        lines,
        faults: faults(outcome),
        logarithmic: false,
        label: number,
    }
}

fn faults(outcome: &Outcome) -> Vec<Span> {
    outcome.faults().iter().map(span_of).collect()
}

fn span_of(fault: &FaultSpan) -> Span {
    Span {
        from: fault.from,
        to: fault.to,
        class: "fault".to_owned(),
        title: format!(
            "{}: {} from {} to {}",
            fault.target,
            fault.what,
            time(fault.from),
            time(fault.to)
        ),
    }
}

/// Returns the CSS class of a badge.
pub(super) const fn badge(kind: PhaseKind) -> &'static str {
    kind.as_str()
}
