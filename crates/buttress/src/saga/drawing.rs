//! Definitions as drawings and as one line of text.

use std::fmt::Write;

use super::plan::{Kind, Plan};

/// A mermaid flow chart.
pub(super) fn mermaid(plan: &Plan) -> String {
    let mut drawing = String::from("flowchart TD\n");
    for (number, step) in plan.steps.iter().enumerate() {
        let name = step.name.as_str().replace('"', "&quot;");
        let (open, close) = match step.kind {
            Kind::Compensatable => ("[\"", "\"]"),
            Kind::Pivot => ("{\"", "\"}"),
            Kind::Retryable => ("([\"", "\"])"),
        };
        let _ = writeln!(drawing, "    s{number}{open}{name}{close}");
    }
    for (number, step) in plan.steps.iter().enumerate() {
        for parent in &step.parents {
            let _ = writeln!(drawing, "    s{parent} --> s{number}");
        }
    }
    for (number, step) in plan.steps.iter().enumerate().filter(|(_, step)| step.has_undo) {
        let name = step.name.as_str().replace('"', "&quot;");
        let _ = writeln!(drawing, "    s{number} -.-> u{number}[\"undo {name}\"]");
    }
    drawing
}

/// Names, kinds and edges: two definitions of one shape resume each other's sagas.
pub(super) fn shape(plan: &Plan) -> String {
    let mut shape = String::new();
    for step in &plan.steps {
        let kind = match step.kind {
            Kind::Compensatable => 'c',
            Kind::Pivot => 'p',
            Kind::Retryable => 'r',
        };
        let _ = write!(shape, "{}:{kind}{:?};", step.name, step.parents);
    }
    // A digest would do, but nobody could read what was different; a long one is cut short to one.
    if shape.len() > 200 {
        let digest = crate::idempotency::Fingerprint::of(shape.as_bytes()).get();
        shape = format!("{digest:032x}");
    }
    shape
}
