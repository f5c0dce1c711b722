use std::time::Duration;

use super::*;
use crate::{Distribution, Fault, Faults, Load, Scenario, Server};

fn outcome(name: &str) -> Outcome {
    let work = Distribution::exponential(Duration::from_millis(7));
    let faults = Faults::new().at(
        Duration::from_secs(3),
        Duration::from_secs(1),
        "data<base>",
        Fault::Pause,
    );
    Scenario::new(name, Duration::from_secs(10))
        .faults(faults)
        .load(Load::poisson(100.0))
        .run(|world| {
            let server = world.server(Server::new("data<base>", work).servers(2))?;
            let gauge = server.clone();
            world.gauge("jobs, \"waiting\"", move || f64::from(gauge.stats().waiting));
            Ok(server)
        })
        .unwrap()
}

/// Whether every bracket outside of strings is closed, and the text is one value.
fn is_balanced(json: &str) -> bool {
    let (mut depth, mut inside, mut escaped) = (0i32, false, false);
    for c in json.trim().chars() {
        match (inside, escaped, c) {
            (true, true, _) => escaped = false,
            (true, false, '\\') => escaped = true,
            (_, _, '"') => inside = !inside,
            (false, _, '{' | '[') => depth += 1,
            (false, _, '}' | ']') => depth -= 1,
            _ => {}
        }
        if depth < 0 || (inside && c < ' ') {
            return false;
        }
    }
    depth == 0 && !inside
}

#[test]
fn names_cannot_break_out_of_any_format() {
    let report = Report::new("<b>&").intro("a <script> \"x\"").add(outcome("x\"y\\z\n<i>,"));
    let html = report.to_html();
    assert!(!html.contains("<script") && !html.contains("<i>,") && !html.contains("data<base>"));
    assert!(html.contains("data&lt;base&gt;: pause"));
    let json = report.to_json();
    assert!(is_balanced(&json));
    assert!(json.contains(r#""name":"x\"y\\z\n<i>,""#), "{}", &json[..200]);
    let csv = report.to_csv();
    assert!(csv.lines().next().unwrap().ends_with("running,\"jobs, \"\"waiting\"\"\""));
    assert!(csv.contains("\n\"x\"\"y\\z\n<i>,\",0,"));
}

#[test]
fn the_page_needs_nothing_else() {
    let html = Report::new("page").add(outcome("a")).add(outcome("b")).to_html();
    for outside in ["http:", "https:", "src=", "url(", "@import", "<link", "<script"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(!html.contains("NaN") && !html.contains("inf"), "a number that is none");
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
}

#[test]
fn a_short_fault_of_a_long_run_is_shown_as_through_a_glass() {
    let long = |faults: Faults| {
        let scenario = Scenario::new("long", Duration::from_secs(100)).faults(faults);
        let run = scenario.run(|world| world.server(Server::new("base", Duration::from_millis(1))));
        Report::new("page").add(run.unwrap()).to_html()
    };
    let sec = Duration::from_secs;
    let (without, with) =
        (long(Faults::new()), long(Faults::new().at(sec(30), sec(1), "base", Fault::Pause)));
    assert_eq!(with.matches("<svg").count(), 2 * without.matches("<svg").count());
    assert!(with.contains("Around the fault") && !without.contains("Around the fault"));
    // From five times its length before to twenty times after, with separate times on the axis.
    let ticks = |html: &str, at: u32| html.matches(&format!(">{at} s</text>")).count();
    assert_eq!([20, 25, 35, 50].map(|at| ticks(&without, at) > 0), [true, false, false, false]);
    assert_eq!([20, 25, 35, 50].map(|at| ticks(&with, at) > 0), [true; 4]);
    // The first of several faults, unless it begins after the end.
    let late = Faults::new().at(sec(200), sec(1), "base", Fault::Pause);
    assert_eq!(long(late.clone()).matches("<svg").count(), without.matches("<svg").count());
    let both = long(late.at(sec(60), sec(1), "base", Fault::Crash).at(
        sec(30),
        sec(1),
        "base",
        Fault::Pause,
    ));
    assert!(both.contains("base: pause from 30 s to 31 s</span>"));
    assert!(!both.contains("NaN") && !both.contains("inf"));
}

#[test]
fn json_and_csv_have_the_same_numbers() {
    let outcome = outcome("same");
    let report = Report::new("numbers").add(outcome.clone());
    let (json, csv) = (report.to_json(), report.to_csv());
    let column = csv.lines().next().unwrap().split(',').position(|name| name == "p99").unwrap();
    assert_eq!(csv.lines().count(), outcome.windows().len() + 1);
    for (line, window) in csv.lines().skip(1).zip(outcome.windows()) {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells[3], window.offered.to_string());
        let p99 = window.latency.quantile(0.99).as_secs_f64().to_string();
        assert_eq!(cells[column], p99);
        assert!(json.contains(&format!("\"p99\":{p99},")));
    }
    assert!(json.contains(&format!("\"trace_hash\":\"{:016x}\"", outcome.trace_hash())));
}

#[test]
fn the_table_has_a_line_for_each_outcome_and_its_columns_are_even() {
    let text = Report::new("table").add(outcome("short")).add(outcome("a longer name")).to_text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    let column = |line: &str, what: &str| line.split(what).next().unwrap().chars().count();
    let end = column(lines[0], "goodput over");
    assert!(
        lines[1..].iter().all(|line| line.chars().nth(end).is_some_and(|c| "▁▂▃▄▅▆▇█".contains(c))),
        "{text}"
    );
}

#[test]
fn figures_have_three_digits() {
    use super::figures::{number, percent, time};
    let numbers =
        [(0.0, "0"), (1.2345, "1.23"), (99.96, "100"), (1234.5, "1234"), (56_789.0, "56.8 k")];
    numbers.into_iter().for_each(|(value, text)| assert_eq!(number(value), text));
    assert_eq!(time(Duration::from_nanos(1_234_000)), "1.23 ms");
    assert_eq!(time(Duration::ZERO), "0 s");
    let shares =
        [(0.0, "0 %"), (0.0001, "<0.1 %"), (0.9999, ">99.9 %"), (1.0, "100 %"), (0.123, "12.3 %")];
    shares.into_iter().for_each(|(share, text)| assert_eq!(percent(share), text));
}
