//! The alert rules and the dashboard use only metrics, labels and values that exist.

use std::collections::{BTreeMap, BTreeSet};

use serde_norway::Value;

use super::page::{instruments, log_rows, root};
use super::promql::{Asked, asked};

const FOLDER: &str = "crates/buttress/observability";

/// Labels that Prometheus adds, and the bounds of a histogram.
const OF_PROMETHEUS: [&str; 3] = ["job", "instance", "le"];

fn file(name: &str) -> String {
    std::fs::read_to_string(root().join(FOLDER).join(name)).unwrap()
}

/// The series with their labels, as the exporter for Prometheus names them.
fn series() -> BTreeMap<String, &'static [&'static str]> {
    let mut series = BTreeMap::new();
    for metric in instruments() {
        let name = metric.name.replace('.', "_");
        let names = match metric.kind.as_str() {
            "histogram" => ["bucket", "sum", "count"].map(|end| format!("{name}_{end}")).to_vec(),
            _ => vec![name],
        };
        for name in names {
            assert!(series.insert(name, metric.labels).is_none(), "two metrics become one");
        }
    }
    series
}

/// The values of the labels with fixed values.
fn values(label: &str) -> Option<BTreeSet<&'static str>> {
    let circuits = || buttress::CircuitState::ALL.iter().map(|state| state.as_str());
    let kinds = buttress::ErrorKind::ALL.iter().map(|kind| kind.as_str());
    Some(match label {
        // The states of a circuit, of a health check, and of the connections of a pool.
        "state" => {
            let health = buttress::health::Status::ALL.iter().map(|status| status.label());
            circuits().chain(health).chain(["used", "idle"]).collect()
        }
        "to" => circuits().collect(),
        "kind" => kinds.collect(),
        "status" => ["running", "unwinding", "stuck", "waiting", "completed", "compensated"].into(),
        "end" => ["executed", "failed", "undone", "undo-failed"].into(),
        _ => return None,
    })
}

/// Compares an expression with the definitions.
fn check(place: &str, expression: &str) {
    let series = series();
    let Asked { selected, labels } = asked(expression);
    assert!(!selected.is_empty(), "{place} asks for nothing: {expression}");
    let mut known: BTreeSet<&str> = OF_PROMETHEUS.into();
    for (name, matchers) in selected {
        let own = series.get(&name).unwrap_or_else(|| panic!("{place}: {name} does not exist"));
        known.extend(own.iter());
        for (label, values_asked) in matchers {
            if OF_PROMETHEUS.contains(&label.as_str()) {
                continue;
            }
            assert!(own.contains(&label.as_str()), "{place}: {name} has no label {label}");
            let all = values(&label).unwrap_or_else(|| panic!("{place}: {label} has any value"));
            for value in values_asked.split('|') {
                assert!(all.contains(value), "{place}: {label} is never {value:?}");
            }
        }
    }
    for label in labels {
        assert!(known.contains(label.as_str()), "{place}: nothing has the label {label}");
    }
}

fn rules() -> Vec<Value> {
    let alerts: Value = serde_norway::from_str(&file("alerts.yml")).unwrap();
    let groups = alerts["groups"].as_sequence().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_sequence().unwrap()).cloned().collect()
}

#[test]
fn alert_rules_quote_log_lines_that_exist() {
    let known: BTreeSet<String> = log_rows().iter().map(|row| message_of(row)).collect();
    let mut quoted = 0;
    for rule in rules() {
        let description = rule["annotations"]["description"].as_str().unwrap();
        // A quoted text may be on two lines of the file.
        let words = description.split_whitespace().collect::<Vec<_>>().join(" ");
        for behind in words.split("log line \"").skip(1) {
            let message = behind.split('"').next().unwrap();
            assert!(
                known.contains(message),
                "{}: no such log line: {message}",
                rule["alert"].as_str().unwrap()
            );
            quoted += 1;
        }
    }
    assert!(quoted > 5, "{quoted} lines are quoted");
}

/// Returns the last column of a row.
fn message_of(row: &str) -> String {
    row.trim_end_matches(" |").rsplit("| ").next().unwrap().to_owned()
}

#[test]
fn alert_rules_ask_for_metrics_that_exist() {
    let rules = rules();
    assert!(rules.len() > 25);
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        check(name, rule["expr"].as_str().unwrap());
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        let annotations = &rule["annotations"];
        for text in ["summary", "description"] {
            assert!(!annotations[text].as_str().unwrap().is_empty(), "{name} has no {text}");
        }
        // The summary names the layer.
        let summary = annotations["summary"].as_str().unwrap();
        assert!(summary.contains("$labels.layer"), "{name}: {summary}");
        let expression = rule["expr"].as_str().unwrap();
        let Asked { selected, labels } = asked(expression);
        for part in summary.split("$labels.").skip(1) {
            let label = part.split(|end: char| !end.is_alphanumeric()).next().unwrap();
            let has = |metric: &String| series()[metric].contains(&label);
            let is_own = OF_PROMETHEUS.contains(&label) || selected.iter().all(|(it, _)| has(it));
            // `by` keeps the labels that it names, `without` the others.
            let stays = expression.contains(" by (") == labels.contains(label);
            assert!(is_own && stays, "{name}: no label {label} in the result of {expression}");
        }
    }
}

#[test]
fn every_alert_rule_is_fired_by_a_test() {
    let tests = file("alerts.test.yml");
    for rule in rules() {
        let name = rule["alert"].as_str().unwrap();
        let fires = format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\", severity=");
        assert!(tests.contains(&fires), "no test fires {name}");
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let dashboard: serde_json::Value = serde_json::from_str(&file("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut queries) = (BTreeSet::new(), 0);
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: two panels have one id");
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries += 1;
            let (expression, legend) = (&target["expr"], &target["legendFormat"]);
            let expression = expression.as_str().unwrap();
            check(title, expression);
            assert!(expression.contains("job=~\"$job\""), "{title}: {expression}");
            // The legend shows a label of the result.
            let Asked { labels, .. } = asked(expression);
            for part in legend.as_str().unwrap().split("{{").skip(1) {
                let label = part.split("}}").next().unwrap();
                assert!(labels.contains(label), "{title}: the result has no label {label}");
            }
        }
    }
    assert!(queries > 50, "{queries}");
}

#[test]
fn alerts_and_dashboard_are_named_on_the_page() {
    let page = super::page::page();
    for name in ["alerts.yml", "alerts.test.yml", "dashboard.json"] {
        assert!(page.contains(name), "{name}");
    }
    for rule in rules() {
        let name = rule["alert"].as_str().unwrap();
        assert!(page.contains(&format!("| `{name}` |")), "{name} is not in the table");
    }
}
