use std::fmt::Write;
use std::time::Duration;

use crate::{Cause, Ends, Histogram, Outcome, StationStats, Window};

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

pub(super) fn array(outcomes: &[Outcome]) -> String {
    let objects: Vec<String> = outcomes.iter().map(outcome).collect();
    format!("[{}]\n", objects.join(",\n"))
}

fn outcome(outcome: &Outcome) -> String {
    let list = |items: Vec<String>| format!("[{}]", items.join(","));
    let mut json = Object::new();
    json.text("name", outcome.name());
    // As text: some readers lose precision of a 64-bit number.
    json.text("seed", &outcome.seed().to_string());
    json.text("trace_hash", &format!("{:016x}", outcome.trace_hash()));
    json.time("duration", outcome.duration());
    json.time("measured", outcome.measured());
    json.number("requests", outcome.requests() as f64);
    json.raw("ends", &ends(outcome.ends()));
    json.number("unfinished", outcome.unfinished() as f64);
    json.number("offered", outcome.offered());
    json.number("goodput", outcome.goodput());
    json.number("throughput", outcome.throughput());
    json.number("attempts", outcome.attempts() as f64);
    json.number("retries", outcome.retries() as f64);
    json.number("amplification", outcome.amplification());
    json.number("wasted_work", outcome.wasted_work());
    json.raw("latency", &latency(outcome.latency()));
    json.raw("latency_by_cause", &by_cause(outcome));
    json.raw("latency_of_all", &of_all(outcome));
    json.raw("stations", &list(outcome.stations().iter().map(|(n, s)| station(n, s)).collect()));
    json.raw("faults", &list(outcome.faults().iter().map(fault).collect()));
    json.raw("phases", &list(outcome.phases().iter().map(phase).collect()));
    json.raw("recoveries", &list(outcome.recoveries().iter().map(recovery).collect()));
    json.raw("circuits", &list(outcome.bands().iter().map(band).collect()));
    let names = outcome.gauges().iter().map(|gauge| quoted(&gauge.name)).collect();
    json.raw("gauges", &list(names));
    json.raw("windows", &list(outcome.windows().iter().map(window).collect()));
    json.end()
}

fn ends(ends: &Ends) -> String {
    let mut json = Object::new();
    Cause::ALL.iter().for_each(|cause| json.number(cause.as_str(), ends.of(*cause) as f64));
    json.end()
}

fn latency(latency: &Histogram) -> String {
    let mut json = Object::new();
    json.number("count", latency.count() as f64);
    json.time("mean", latency.mean());
    for (name, q) in QUANTILES {
        json.time(name, latency.quantile(q));
    }
    json.time("max", latency.max());
    json.end()
}

fn by_cause(outcome: &Outcome) -> String {
    let mut json = Object::new();
    let ended = Cause::ALL.iter().filter(|cause| outcome.ends().of(**cause) > 0);
    ended.for_each(|cause| json.raw(cause.as_str(), &latency(outcome.latency_of(*cause))));
    json.end()
}

/// Returns `null` if fewer requests than the quantile succeeded.
fn of_all(outcome: &Outcome) -> String {
    let mut json = Object::new();
    for (name, q) in QUANTILES {
        match outcome.quantile_of_all(q) {
            Some(time) => json.time(name, time),
            None => json.raw(name, "null"),
        }
    }
    json.end()
}

fn station(name: &str, stats: &StationStats) -> String {
    let mut json = Object::new();
    json.text("name", name);
    for (name, count) in [
        ("arrived", stats.arrived),
        ("completed", stats.completed),
        ("failed", stats.failed),
        ("overloaded", stats.overloaded),
        ("down", stats.down),
        ("cancelled", stats.cancelled),
        ("swallowed", stats.swallowed),
        ("orphaned", stats.orphaned),
    ] {
        json.number(name, count as f64);
    }
    json.time("busy", stats.busy);
    json.time("wasted", stats.wasted);
    json.number("mean_present", stats.mean_present());
    json.time("mean_sojourn", stats.mean_sojourn());
    json.end()
}

fn fault(fault: &crate::FaultSpan) -> String {
    let mut json = Object::new();
    json.text("target", &fault.target);
    json.text("what", &fault.what);
    spanned(json, fault.from, fault.to)
}

/// Ends an object with its span of time.
fn spanned(mut json: Object, from: Duration, to: Duration) -> String {
    json.time("from", from);
    json.time("to", to);
    json.end()
}

fn phase(phase: &crate::Phase) -> String {
    let mut json = Object::new();
    json.text("kind", phase.kind.as_str());
    spanned(json, phase.from, phase.to)
}

fn recovery(recovery: &crate::Recovery) -> String {
    let mut json = Object::new();
    json.text("trigger", recovery.trigger.as_str());
    json.time("trigger_ended", recovery.trigger_ended);
    match recovery.after {
        Some(after) => json.time("after", after),
        None => json.raw("after", "null"),
    }
    json.end()
}

fn band(band: &crate::Band) -> String {
    let state = |(from, state): &(Duration, buttress::CircuitState)| {
        let mut json = Object::new();
        json.time("from", *from);
        json.text("state", state.as_str());
        json.end()
    };
    let states: Vec<String> = band.states.iter().map(state).collect();
    let mut json = Object::new();
    json.text("name", &band.name);
    json.raw("states", &format!("[{}]", states.join(",")));
    json.end()
}

fn window(window: &Window) -> String {
    let mut json = Object::new();
    json.time("start", window.start);
    json.time("length", window.length);
    json.number("offered", window.offered as f64);
    json.raw("ends", &ends(&window.ends));
    json.raw("latency", &latency(&window.latency));
    json.number("retries", window.retries as f64);
    json.number("refusals", window.refusals as f64);
    json.number("timeouts", window.timeouts as f64);
    let stations: Vec<String> = window
        .stations
        .iter()
        .map(|station| {
            let mut json = Object::new();
            json.number("arrived", station.arrived as f64);
            json.number("worked", station.worked as f64);
            json.time("busy", station.busy);
            json.time("wasted", station.wasted);
            json.number("mean_present", station.mean_present);
            json.number("waiting", f64::from(station.waiting));
            json.number("running", f64::from(station.running));
            json.end()
        })
        .collect();
    json.raw("stations", &format!("[{}]", stations.join(",")));
    let gauges: Vec<String> = window.gauges.iter().map(|value| number(*value)).collect();
    json.raw("gauges", &format!("[{}]", gauges.join(",")));
    json.end()
}

struct Object {
    text: String,
}

impl Object {
    fn new() -> Self {
        Self { text: "{".to_owned() }
    }

    fn raw(&mut self, name: &str, value: &str) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        let _ = write!(self.text, "{}:{value}", quoted(name));
    }

    fn text(&mut self, name: &str, value: &str) {
        self.raw(name, &quoted(value));
    }

    fn number(&mut self, name: &str, value: f64) {
        self.raw(name, &number(value));
    }

    fn time(&mut self, name: &str, value: Duration) {
        self.number(name, value.as_secs_f64());
    }

    fn end(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

fn number(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { "null".to_owned() }
}

/// Formats a JSON string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c if c < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
