use super::figures::{after_the_fault, number, of_all, of_ok, percent};
use crate::{Cause, Outcome};

/// The number of blocks in a row.
const BLOCKS: usize = 40;

pub(super) fn table(outcomes: &[Outcome]) -> String {
    let head = [
        "",
        "offered/s",
        "good/s",
        "ok",
        "p50 of ok",
        "p99 of ok",
        "p99 of all",
        "attempts",
        "wasted",
        "after the fault",
        "at the end",
    ];
    let mut rows: Vec<Vec<String>> = vec![head.iter().map(|cell| (*cell).to_owned()).collect()];
    for outcome in outcomes {
        rows.push(vec![
            outcome.name().to_owned(),
            number(outcome.offered()),
            number(outcome.goodput()),
            percent(outcome.share(Cause::Ok)),
            of_ok(outcome, 0.5),
            of_ok(outcome, 0.99),
            of_all(outcome, 0.99),
            format!("{:.2}", outcome.amplification()),
            percent(outcome.wasted_work()),
            after_the_fault(outcome),
            outcome.ended_in().as_str().to_owned(),
        ]);
    }
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max()
        })
        .map(Option::unwrap_or_default)
        .collect();
    let mut text = String::new();
    for (line, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            // Words are aligned to the left, figures to the right.
            let words = column == 0 || column >= head.len() - 2;
            text.push_str(&if words { format!("{cell}{pad}") } else { format!("{pad}{cell}") });
            text.push_str("  ");
        }
        if let Some(outcome) = line.checked_sub(1).and_then(|index| outcomes.get(index)) {
            text.push_str(&goodput_row(outcome));
        } else {
            text.push_str("goodput over the time");
        }
        while text.ends_with(' ') {
            text.pop();
        }
        text.push('\n');
    }
    text
}

/// Draws goodput as a row of blocks, relative to the greatest load offered in the windows of each
/// block.
fn goodput_row(outcome: &Outcome) -> String {
    let windows = outcome.windows();
    let per_block = windows.len().div_ceil(BLOCKS).max(1);
    let shares = windows.chunks(per_block).map(|windows| {
        let offered: u64 = windows.iter().map(|window| window.offered).sum();
        let good: u64 = windows.iter().map(|window| window.ends.of(Cause::Ok)).sum();
        if offered == 0 { 0.0 } else { good as f64 / offered as f64 }
    });
    shares.map(block).collect()
}

fn block(share: f64) -> char {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let level = (share.clamp(0.0, 1.0) * 7.0).round() as usize;
    LEVELS.get(level).copied().unwrap_or('█')
}
