//! The changes that the gate accepts.

use super::{Baseline, COLUMNS, Cost, Toolchain, Verdict};

/// The first four figures of each row, without the others.
fn baseline(rows: &[(&str, [Option<f64>; 4])]) -> Baseline {
    let rows: Vec<_> = rows.iter().map(|(row, figures)| (*row, wide(*figures))).collect();
    whole(&rows)
}

fn wide(first: [Option<f64>; 4]) -> [Option<f64>; COLUMNS] {
    let mut all = [None; COLUMNS];
    all[..4].copy_from_slice(&first);
    all
}

fn whole(rows: &[(&str, [Option<f64>; COLUMNS])]) -> Baseline {
    let toolchain = Toolchain { rustc: "rustc 1.95.0".into(), target: "x86_64".into() };
    let cost = |(row, figures): &(&str, _)| Cost { row: (*row).into(), figures: *figures };
    Baseline { toolchain, cores: Some(2), costs: rows.iter().map(cost).collect() }
}

/// Returns the verdicts on one row called `a`.
fn judged(before: [f64; 4], now: [f64; 4], instructions: bool) -> Vec<Verdict> {
    let [before, now] = [before, now].map(|figures| baseline(&[("a", figures.map(Some))]));
    before.compare(&now, instructions).into_iter().map(|(_, verdict)| verdict).collect()
}

#[test]
fn five_per_cent_pass_and_more_does_not() {
    let before = [1000.0, 0.0, 0.0, 40.0];
    assert_eq!(judged(before, [1050.0, 0.0, 0.0, 40.0], true), [Verdict::Same]);
    let grew = [Verdict::Grew("instructions", 1000.0, 1051.0)];
    assert_eq!(judged(before, [1051.0, 0.0, 0.0, 40.0], true), grew);
}

#[test]
fn one_locked_instruction_more_is_too_much() {
    let with = |locked, shared, binary| {
        let mut figures = wide([Some(100.0), Some(0.0), Some(0.0), Some(40.0)]);
        figures[5..].copy_from_slice(&[Some(locked), Some(shared), Some(binary)]);
        whole(&[("a", figures)])
    };
    let before = with(100.0, 50.0, 1000.0);
    let verdicts = |now| before.compare(&now, true).into_iter().map(|(_, verdict)| verdict);
    let locked = Verdict::Grew("locked read-modify-writes", 100.0, 100.1);
    let shared = Verdict::Grew("locked read-modify-writes on shared lines", 50.0, 50.1);
    assert_eq!(verdicts(with(100.1, 50.1, 1050.0)).collect::<Vec<_>>(), [locked, shared]);
    let binary = Verdict::Grew("bytes of binary", 1000.0, 1051.0);
    assert_eq!(verdicts(with(100.0, 50.0, 1051.0)).collect::<Vec<_>>(), [binary]);
    let all = before.compare(&with(900.0, 900.0, 9000.0), false);
    assert_eq!(all, [("a".to_owned(), Verdict::Same)], "another toolchain");
}

#[test]
fn where_nothing_was_allocated_anything_is_too_much() {
    let before = [100.0, 0.0, 0.0, 40.0];
    let now = [100.0, 1.0, 16.0, 40.0];
    let grew = [Verdict::Grew("allocations", 0.0, 1.0), Verdict::Grew("bytes", 0.0, 16.0)];
    assert_eq!(judged(before, now, true), grew);
}

#[test]
fn what_is_won_is_mentioned_and_passes() {
    let shrank = judged([1000.0, 0.0, 0.0, 40.0], [900.0, 0.0, 0.0, 40.0], true);
    assert_eq!(shrank, [Verdict::Shrank("instructions", 1000.0, 900.0)]);
    assert!(!shrank[0].fails());
}

#[test]
fn instructions_of_another_toolchain_are_left_out() {
    let [before, now] = [[100.0, 0.0, 0.0, 40.0], [900.0, 0.0, 0.0, 40.0]];
    assert_eq!(judged(before, now, false), [Verdict::Same]);
    let grew = [Verdict::Grew("future", 40.0, 80.0)];
    assert_eq!(judged(before, [900.0, 0.0, 0.0, 80.0], false), grew);
}

#[test]
fn idle_bytes_are_compared_between_machines_with_as_many_cores() {
    let with = |idle| {
        let mut figures = wide([Some(100.0), Some(0.0), Some(0.0), Some(40.0)]);
        figures[4] = Some(idle);
        whole(&[("a", figures)])
    };
    let (before, mut now) = (with(3000.0), with(8000.0));
    let of = |verdict| [("a".to_owned(), verdict)];
    assert_eq!(before.compare(&now, true), of(Verdict::Grew("idle", 3000.0, 8000.0)));
    now.cores = Some(16);
    assert_eq!(before.compare(&now, true), of(Verdict::Same));
}

#[test]
fn a_missing_row_and_a_new_one_fail() {
    let figures = [Some(1.0), Some(0.0), Some(0.0), None];
    let verdicts = baseline(&[("a", figures), ("b", figures)])
        .compare(&baseline(&[("b", figures), ("c", figures)]), true);
    let expected =
        [("a".into(), Verdict::Missing), ("b".into(), Verdict::Same), ("c".into(), Verdict::New)];
    assert_eq!(verdicts, expected);
    assert!(verdicts[0].1.fails() && !verdicts[1].1.fails() && verdicts[2].1.fails());
}

#[test]
fn what_is_written_is_read_again() {
    let written = baseline(&[("a: b, c", [Some(12.5), Some(0.0), Some(0.0), None])]);
    assert_eq!(Baseline::from_text(&written.to_text()), Ok(written));
}

/// Returns the error for a file whose second row is `row`.
fn wrong(row: &str) -> String {
    let text = format!("# rustc\n# x86_64\na\t1\t2\t3\t4\t5\t6\t7\t8\n{row}\n");
    Baseline::from_text(&text).expect_err("it is damaged")
}

#[test]
fn a_damaged_file_is_not_a_baseline_and_the_line_is_named() {
    assert_eq!(wrong("b\t3O\t0\t0\t40\t-\t-\t-\t-"), "line 4: \"3O\" is not a figure");
    assert_eq!(wrong("b\t30\tNaN\t0\t40\t-\t-\t-\t-"), "line 4: \"NaN\" is not a figure");
    assert_eq!(wrong("b\t30\t0\tinf\t40\t-\t-\t-\t-"), "line 4: \"inf\" is not a figure");
    assert_eq!(wrong("b\t30\t0\t\t40\t-\t-\t-\t-"), "line 4: \"\" is not a figure");
    assert_eq!(wrong("b\t-\t-\t-\t-\t-\t-\t-\t-"), "line 4: the row has no figure");
    assert_eq!(wrong("b\t30\t0\t0"), "line 4: 3 figures, 8 are needed");
    assert_eq!(wrong("b\t1\t2\t3\t4\t5\t6\t7\t8\t9"), "line 4: 9 figures, 8 are needed");
    assert_eq!(wrong(""), "line 4: 0 figures, 8 are needed");
    assert!(
        Baseline::from_text("a\t1\t2\t3\t4\t5\t6\t7\t8\n").expect_err("damaged").contains("line 1")
    );
    assert_eq!(Baseline::from_text("# rustc\n# x86_64\n"), Err("the file has no row".into()));
}

#[test]
fn what_only_one_side_measured_fails() {
    let measured = baseline(&[("a", [Some(30.0), Some(0.0), Some(0.0), Some(40.0)])]);
    let nothing = baseline(&[("a", [None; 4])]);
    let of = |verdict| ("a".to_owned(), verdict);
    let gone = measured.compare(&nothing, true);
    assert_eq!(gone.len(), 4);
    assert_eq!(gone[0], of(Verdict::Unmatched("instructions", Some(30.0), None)));
    assert_eq!(nothing.compare(&measured, true).len(), 4);
    assert!(gone.iter().all(|(_, verdict)| verdict.fails()));
    // Without valgrind there are no instructions to compare.
    let uncounted = baseline(&[("a", [None, Some(0.0), Some(0.0), Some(40.0)])]);
    assert_eq!(measured.compare(&uncounted, false), [of(Verdict::Same)]);
}

#[test]
fn a_run_that_measured_nothing_fails() {
    let measured = baseline(&[("a", [Some(30.0), Some(0.0), Some(0.0), Some(40.0)])]);
    for instructions in [true, false] {
        let verdicts = measured.compare(&baseline(&[]), instructions);
        assert_eq!(verdicts, [("a".to_owned(), Verdict::Missing)]);
    }
}
