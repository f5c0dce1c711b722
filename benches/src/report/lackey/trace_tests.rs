use std::sync::atomic::{AtomicU32, Ordering};

use super::super::image::{Image, Mapping};
use super::{Trace, Written};

/// Code at 0x1000: `lock inc dword ptr [rax]` (3 bytes), `inc dword ptr [rax]` (2), `mov [rax], eax` (2).
const CODE: [u8; 7] = [0xF0, 0xFF, 0x00, 0xFF, 0x00, 0x89, 0x00];
const LOCKED: &str = "I  00001000,3";
const PLAIN: &str = "I  00001003,2";
const STORE: &str = "I  00001005,2";
const MARK: &str = " S 0009000,8";

fn trace() -> Trace {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("trace-{}-{number}", std::process::id()));
    std::fs::write(&path, CODE).expect("a file");
    let line = format!("1000-1007 r-xp 00000000 00:00 0 {}", path.display());
    let image = Image::new(vec![Mapping::of_code(&line).expect("code")]).expect("a file");
    std::fs::remove_file(&path).expect("it was there");
    Trace::new(0x9000, image)
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
    let both = [LOCKED, " L 00a008,4", " M 00a008,4"];
    let lines = [&[MARK], &both[..], &[MARK, MARK], &both[..], &[MARK]].concat();
    let written = Written { locked: 2, locked_shared: 2, plain_shared: 0 };
    assert_eq!(of(&lines), Ok(vec![written]));
}

#[test]
fn two_words_of_one_line_are_shared_and_two_lines_are_not() {
    let section = |line| [MARK, LOCKED, line, MARK];
    let near = [section(" M 00a000,4"), section(" M 00a03f,4")].concat();
    let far = [section(" M 00a000,4"), section(" M 00a040,4")].concat();
    let shared = Written { locked: 2, locked_shared: 2, plain_shared: 0 };
    let alone = Written { locked: 2, locked_shared: 0, plain_shared: 0 };
    assert_eq!(of(&near), Ok(vec![shared]));
    assert_eq!(of(&far), Ok(vec![alone]));
    assert_eq!(of(&[near, far].concat()), Ok(vec![shared, alone]));
}

#[test]
fn a_write_without_a_lock_is_counted_apart() {
    let first = [MARK, LOCKED, " M 00a000,4", MARK];
    let second = [MARK, STORE, " S 00a010,4", PLAIN, " M 00a020,4", MARK];
    let written = Written { locked: 1, locked_shared: 1, plain_shared: 2 };
    assert_eq!(of(&[&first[..], &second[..]].concat()), Ok(vec![written]));
}

#[test]
fn a_line_that_the_other_thread_only_reads_is_not_shared() {
    let first = [MARK, LOCKED, " M 00a000,4", MARK];
    let second = [MARK, STORE, " L 00a000,4", MARK];
    let written = Written { locked: 1, locked_shared: 0, plain_shared: 0 };
    assert_eq!(of(&[&first[..], &second[..]].concat()), Ok(vec![written]));
}

#[test]
fn what_is_outside_of_the_marks_does_not_count() {
    let noise = [LOCKED, " M 00a000,4"];
    let section = [MARK, STORE, " S 00b000,4", MARK];
    let lines = [&noise[..], &section[..], &noise[..], &section[..], &noise[..]].concat();
    let written = Written { locked: 0, locked_shared: 0, plain_shared: 2 };
    assert_eq!(of(&lines), Ok(vec![written]));
    // Nor does code of no file, which is an error between the marks.
    assert_eq!(of(&["I  00005000,3"]), Ok(vec![]));
    assert!(of(&[MARK, "I  00005000,3"]).is_err_and(|wrong| wrong.contains("0x5000")));
}

#[test]
fn lines_of_valgrind_are_passed_over_and_a_cut_trace_is_an_error() {
    let banner = ["==1== Lackey, an example Valgrind tool", "", "==1== ", "I", "I  xyz,3"];
    assert_eq!(of(&banner), Ok(vec![]));
    assert!(of(&[MARK]).is_err());
    assert!(of(&[MARK, MARK]).is_err());
    assert!(of(&[MARK, MARK, MARK]).is_err());
}
