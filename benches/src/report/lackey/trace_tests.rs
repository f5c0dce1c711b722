use std::sync::atomic::{AtomicU32, Ordering};

use super::super::image::{Image, Mapping};
use super::{Marks, Trace, Written};

/// Code at 0x1000: `lock inc dword ptr [rax]` (3 bytes), `inc dword ptr [rax]` (2), `mov [rax], eax` (2).
const CODE: [u8; 7] = [0xF0, 0xFF, 0x00, 0xFF, 0x00, 0x89, 0x00];
const LOCKED: &str = "I  00001000,3";
const PLAIN: &str = "I  00001003,2";
const STORE: &str = "I  00001005,2";
const MARK: &str = " S 0009000,8";
const NEXT: &str = " S 0009100,8";
const MARKS: Marks = Marks { thread: 0x9000, call: 0x9100 };

fn trace() -> Trace {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("trace-{}-{number}", std::process::id()));
    std::fs::write(&path, CODE).expect("a file");
    let line = format!("1000-1007 r-xp 00000000 00:00 0 {}", path.display());
    let image = Image::new(vec![Mapping::of_code(&line).expect("code")]).expect("a file");
    std::fs::remove_file(&path).expect("it was there");
    Trace::new(MARKS, image)
}

/// Calls on one thread.
fn section<'a>(calls: &[&[&'a str]]) -> Vec<&'a str> {
    let calls = calls.iter().flat_map(|call| [call, &[NEXT][..]].concat());
    [MARK].into_iter().chain(calls).chain([MARK]).collect()
}

fn written(calls: usize, [locked, locked_shared, plain_shared]: [f64; 3]) -> Written {
    Written { calls, locked, locked_shared, plain_shared }
}

fn of(lines: &[&str]) -> Result<Vec<Written>, String> {
    let mut trace = trace();
    for line in lines {
        trace.line(line)?;
    }
    trace.end()
}

#[test]
fn a_locked_line_that_both_threads_write_is_shared() {
    let both = section(&[&[LOCKED, " L 00a008,4", " M 00a008,4"]]);
    assert_eq!(of(&[&both[..], &both].concat()), Ok(vec![written(1, [1.0, 1.0, 0.0])]));
}

#[test]
fn two_words_of_one_line_are_shared_and_two_lines_are_not() {
    let one = |line| section(&[&[LOCKED, line]]);
    let near = [one(" M 00a000,4"), one(" M 00a03f,4")].concat();
    let far = [one(" M 00a000,4"), one(" M 00a040,4")].concat();
    let (shared, alone) = (written(1, [1.0, 1.0, 0.0]), written(1, [1.0, 0.0, 0.0]));
    assert_eq!(of(&near), Ok(vec![shared]));
    assert_eq!(of(&far), Ok(vec![alone]));
    assert_eq!(of(&[near, far].concat()), Ok(vec![shared, alone]));
}

#[test]
fn lines_are_shared_that_the_threads_write_in_different_calls() {
    let (here, there) = ([LOCKED, " M 00a000,4"], [LOCKED, " M 00b000,4"]);
    let (first, second) = (section(&[&here, &there]), section(&[&there, &here]));
    let expected = written(2, [1.0, 1.0, 0.0]);
    assert_eq!(of(&[&first[..], &second].concat()), Ok(vec![expected]));
}

#[test]
fn a_write_without_a_lock_is_counted_apart() {
    let first = section(&[&[LOCKED, " M 00a000,4"]]);
    let second = section(&[&[LOCKED, " M 00a000,4", STORE, " S 00a010,4", PLAIN, " M 00a020,4"]]);
    // No write and two writes: the mean of both in the middle.
    let expected = written(1, [1.0, 1.0, 1.0]);
    assert_eq!(of(&[&first[..], &second].concat()), Ok(vec![expected]));
}

#[test]
fn a_line_that_the_other_thread_only_reads_is_not_shared() {
    let first = section(&[&[LOCKED, " M 00a000,4"]]);
    let second = section(&[&[LOCKED, " M 00c000,4", STORE, " L 00a000,4"]]);
    assert_eq!(of(&[&first[..], &second].concat()), Ok(vec![written(1, [1.0, 0.0, 0.0])]));
}

#[test]
fn a_call_that_differs_from_most_does_not_count() {
    let call = [LOCKED, " M 00a000,4"];
    let noise = [LOCKED, " M 00b000,4", LOCKED, " M 00b000,4", STORE, " S 00a010,4"];
    let late = [&noise[..], &call].concat();
    let quiet = section(&[&call, &call, &call]);
    let noisy = section(&[&late, &call, &call]);
    let expected = Ok(vec![written(3, [1.0, 1.0, 0.0])]);
    assert_eq!(of(&[&quiet[..], &quiet].concat()), expected);
    assert_eq!(of(&[&noisy[..], &quiet].concat()), expected);
    assert_eq!(of(&[&noisy[..], &noisy].concat()), expected);
    // Three of six: it is no exception any more.
    let most = section(&[&late, &late, &call]);
    assert_eq!(of(&[&most[..], &noisy].concat()), Ok(vec![written(3, [2.0, 2.0, 0.5])]));
}

#[test]
fn what_is_outside_of_the_marks_does_not_count() {
    let noise = [LOCKED, " M 00a000,4"];
    let inside = section(&[&[STORE, " S 00b000,4"]]);
    // After the last call, too.
    let inside = [&inside[..inside.len() - 1], &noise[..], &[MARK]].concat();
    let lines = [&noise[..], &[NEXT], &inside[..], &noise[..], &inside[..], &noise[..]].concat();
    assert_eq!(of(&lines), Ok(vec![written(1, [0.0, 0.0, 1.0])]));
    // Nor does code of no file, which is an error between the marks.
    assert_eq!(of(&["I  00005000,3"]), Ok(vec![]));
    assert!(of(&[MARK, "I  00005000,3"]).is_err_and(|wrong| wrong.contains("0x5000")));
}

#[test]
fn each_thread_makes_as_many_calls_as_the_other() {
    let (one, two) = (section(&[&[]]), section(&[&[], &[]]));
    assert!(of(&[&one[..], &two].concat()).is_err_and(|wrong| wrong.contains("1 calls")));
    assert_eq!(of(&[&two[..], &two].concat()), Ok(vec![written(2, [0.0; 3])]));
}

#[test]
fn lines_of_valgrind_are_passed_over_and_a_cut_trace_is_an_error() {
    let banner = ["==1== Lackey, an example Valgrind tool", "", "==1== ", "I", "I  xyz,3"];
    assert_eq!(of(&banner), Ok(vec![]));
    assert!(of(&[MARK]).is_err());
    assert!(of(&[MARK, MARK]).is_err());
    assert!(of(&[MARK, MARK, MARK]).is_err());
}
