//! Drawings of definitions, and their shapes as one line of text.

use std::fmt::Write;

use crate::saga::model::plan::{Kind, Plan, Wait};

/// Returns a mermaid flow chart of the steps.
pub(in crate::saga) fn mermaid(plan: &Plan) -> String {
    let mut drawing = String::from("flowchart TD\n");
    for (number, step) in plan.steps.iter().enumerate() {
        let name = step.name.as_str().replace('"', "&quot;");
        let (open, close) = match step.kind {
            _ if step.waits.is_some() => ("{{\"", "\"}}"),
            _ if step.runs_child => ("[[\"", "\"]]"),
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

/// Returns the names, kinds and edges of the steps. Two definitions of one shape resume each
/// other's sagas.
pub(in crate::saga) fn shape(plan: &Plan) -> String {
    let mut shape = String::new();
    for step in &plan.steps {
        let kind = match step.kind {
            Kind::Compensatable => 'c',
            Kind::Pivot => 'p',
            Kind::Retryable => 'r',
        };
        let kind = match step.waits {
            Some(Wait::Time) => 'w',
            Some(Wait::Signal) => 's',
            Some(Wait::OptionalSignal) => 'o',
            None if step.runs_child => kind.to_ascii_uppercase(),
            None => kind,
        };
        let _ = write!(shape, "{}:{kind}{:?};", step.name, step.parents);
    }
    // A readable shape shows which steps differ. A long one is replaced by its digest.
    if shape.len() > 200 {
        shape = format!("{:032x}", digest(shape.as_bytes()));
    }
    shape
}

/// Returns the FNV-1a digest of `bytes` (Fowler, Noll and Vo; 128 bits). Logs keep it, in shapes and as ids of child
/// sagas, so it must never change.
pub(in crate::saga) fn digest(bytes: &[u8]) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(BASIS, |digest, byte| (digest ^ u128::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::digest;

    #[test]
    fn the_digest_is_the_published_one() {
        assert_eq!(digest(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(digest(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }
}
