use crate::{Cause, Outcome, Window};

/// The first columns of every line.
const FIXED: [&str; 5] = ["outcome", "start", "length", "offered", "goodput"];

pub(super) fn windows(outcomes: &[Outcome]) -> String {
    let mut gauges: Vec<&str> = Vec::new();
    for gauge in outcomes.iter().flat_map(Outcome::gauges) {
        if !gauges.contains(&gauge.name.as_str()) {
            gauges.push(&gauge.name);
        }
    }
    let mut head: Vec<String> = FIXED.iter().map(|name| (*name).to_owned()).collect();
    head.extend(Cause::ALL.iter().map(|cause| cause.as_str().to_owned()));
    head.extend(["mean", "p50", "p90", "p99", "p999", "max"].map(str::to_owned));
    head.extend(["retries", "refusals", "timeouts"].map(str::to_owned));
    head.extend(["arrived", "worked", "busy", "wasted", "waiting", "running"].map(str::to_owned));
    head.extend(gauges.iter().map(|name| cell(name)));
    let mut text = head.join(",") + "\n";
    for outcome in outcomes {
        for (index, (window, station)) in
            outcome.windows().iter().zip(outcome.target_windows()).enumerate()
        {
            let mut line = window_cells(outcome, window);
            line.extend([station.arrived, station.worked].map(|count| count.to_string()));
            line.extend([station.busy, station.wasted].map(|t| t.as_secs_f64().to_string()));
            line.extend([station.waiting, station.running].map(|count| count.to_string()));
            line.extend(gauges.iter().map(|name| {
                let value = outcome.gauge(name).and_then(|gauge| gauge.values.get(index));
                value.map(f64::to_string).unwrap_or_default()
            }));
            text.push_str(&line.join(","));
            text.push('\n');
        }
    }
    text
}

fn window_cells(outcome: &Outcome, window: &Window) -> Vec<String> {
    let latency = &window.latency;
    let mut line = vec![
        cell(outcome.name()),
        window.start.as_secs_f64().to_string(),
        window.length.as_secs_f64().to_string(),
        window.offered.to_string(),
        window.goodput().to_string(),
    ];
    line.extend(Cause::ALL.iter().map(|cause| window.ends.of(*cause).to_string()));
    line.push(latency.mean().as_secs_f64().to_string());
    line.extend([0.5, 0.9, 0.99, 0.999].map(|q| latency.quantile(q).as_secs_f64().to_string()));
    line.push(latency.max().as_secs_f64().to_string());
    line.extend([window.retries, window.refusals, window.timeouts].map(|count| count.to_string()));
    line
}

/// Formats a cell, quoted where necessary (RFC 4180).
fn cell(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
