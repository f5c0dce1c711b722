//! The supervision of real processes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(dead_code, reason = "another test uses the rest of the support")]

mod support;

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use support::{Sidecar, eventually, exists, kill};

#[test]
fn without_arguments_it_prints_its_use() {
    let mut sidecar = Sidecar::run(&[]);
    assert_eq!(sidecar.code(), 0);
    assert!(sidecar.line().starts_with("usage: sidecar --listen ADDRESS --to URL"));
}

#[test]
fn arguments_and_addresses_that_cannot_be_used_end_it_with_2_and_start_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let to = ["--to", "http://127.0.0.1:1", "--", "echo", "started"];
    for (arguments, message) in [
        (vec!["--listen"], "`--listen` has no value"),
        ([&["--listen", taken.as_str()], &to[..]].concat(), "cannot listen on"),
        (vec!["--listen", "127.0.0.1:0", "--to", "ftp://a", "--", "echo"], "upstream"),
        ([&["--listen", "127.0.0.1:0", "--config", "none"], &to[..]].concat(), "cannot read none"),
    ] {
        let mut sidecar = Sidecar::run(&arguments);
        assert_eq!(sidecar.code(), 2, "{arguments:?}");
        sidecar.message(message);
        assert_eq!(sidecar.rest(), [""; 0], "{arguments:?}");
    }
}

#[test]
fn output_passes_through_and_a_success_ends_the_sidecar() {
    let mut sidecar = Sidecar::script(&[], "echo out; echo err >&2; cat; exit 0");
    assert_eq!(sidecar.line(), "out");
    sidecar.message("err");
    assert_eq!(sidecar.code(), 0, "`cat` has read the end of its input");
}

#[test]
fn the_sixth_failure_ends_the_sidecar_with_its_code() {
    let mut sidecar = Sidecar::script(&[], "echo started; exit 3");
    assert_eq!(sidecar.code(), 3);
    assert_eq!(sidecar.rest(), ["started"; 6]);
}

#[test]
fn a_child_that_never_restarts_ends_the_sidecar_with_its_code_or_its_signal() {
    for (script, code) in [("exit 0", 0), ("exit 9", 9), ("kill -9 $$", 137), ("kill -11 $$", 139)]
    {
        let mut sidecar = Sidecar::script(&["--restart", "never"], script);
        assert_eq!(sidecar.code(), code, "{script}");
    }
}

#[test]
fn always_restarts_after_a_success() {
    let script = "trap 'exit 0' TERM; echo started; exit 0";
    let mut sidecar = Sidecar::script(&["--restart", "always"], script);
    for _ in 0..3 {
        assert_eq!(sidecar.line(), "started");
        sidecar.message("the command ended: code 0");
    }
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 0);
}

#[test]
fn a_command_that_does_not_exist_or_cannot_run_ends_it_with_127_or_126() {
    let file = std::env::temp_dir().join(format!("sidecar-{}", std::process::id()));
    std::fs::write(&file, "text").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let no_program = file.to_str().unwrap();
    for (command, code) in [("no-such-command-anywhere", 127), (no_program, 126), ("/", 126)] {
        let listen = ["--listen", "127.0.0.1:0", "--to", "http://127.0.0.1:1"];
        let mut sidecar = Sidecar::run(&[&listen[..], &["--", command]].concat());
        sidecar.message(&format!("cannot start `{command}`"));
        assert_eq!(sidecar.code(), code, "{command}");
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn signals_to_stop_are_forwarded_and_the_code_is_the_childs() {
    for (signal, name, code) in [
        (Signal::TERM, "TERM", 5),
        (Signal::INT, "INT", 0),
        (Signal::HUP, "HUP", 7),
        (Signal::QUIT, "QUIT", 8),
    ] {
        let script = format!(
            "trap 'echo {name}; exit {code}' {name}; echo ready; while :; do sleep 0.1; done"
        );
        let mut sidecar = Sidecar::script(&[], &script);
        assert_eq!(sidecar.line(), "ready");
        sidecar.signal(signal);
        assert_eq!(sidecar.line(), name);
        assert_eq!(sidecar.code(), code);
    }
}

#[test]
fn a_child_that_dies_of_the_signal_is_no_failure_to_restart() {
    let mut sidecar = Sidecar::script(&["--restart", "always"], "echo ready; exec sleep 1000");
    assert_eq!(sidecar.line(), "ready");
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 143);
    assert_eq!(sidecar.rest(), [""; 0]);
}

#[test]
fn a_group_that_ignores_the_signal_is_killed_at_the_stop_limit() {
    let script = "trap '' TERM; sleep 1000 & echo $!; wait; wait";
    let mut sidecar = Sidecar::script(&["--stop-limit", "200ms"], script);
    let grandchild = sidecar.line();
    assert!(exists(&grandchild));
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 137);
    assert!(!exists(&grandchild));
}

#[test]
fn a_signal_while_the_child_is_down_ends_the_sidecar() {
    let mut sidecar = Sidecar::script(&[], "echo started; exit 4");
    // After the fifth failure the wait is 1.6 s.
    for _ in 0..5 {
        assert_eq!(sidecar.line(), "started");
        sidecar.message("the command ended: code 4");
    }
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 4);
    assert_eq!(sidecar.rest(), [""; 0]);
}

#[test]
fn no_process_of_the_group_outlives_the_child() {
    let script = "sleep 1000 & echo $!; sleep 1000 & echo $!; exit 1";
    let mut sidecar = Sidecar::script(&["--restart", "never"], script);
    let grandchildren = [sidecar.line(), sidecar.line()];
    assert_eq!(sidecar.code(), 1);
    assert!(!grandchildren.iter().any(|id| exists(id)), "{grandchildren:?}");
}

#[test]
fn a_restart_finds_no_process_and_no_zombie_of_the_last_child() {
    let script = "sleep 1000 & echo $!; (exit 0) & exit 1";
    let mut sidecar = Sidecar::script(&[], script);
    let mut last = sidecar.line();
    for _ in 0..4 {
        let present = sidecar.line();
        assert!(!exists(&last), "{last} was left");
        last = present;
    }
    sidecar.signal(Signal::TERM);
    sidecar.end();
    assert!(!exists(&last));
}

/// Returns the parent and the group of a process. They stand behind its name and its state.
#[cfg(target_os = "linux")]
fn stat(id: &str) -> Option<(String, String)> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut words = rest.split(' ').skip(1).map(String::from);
    Some((words.next()?, words.next()?))
}

#[test]
#[cfg(target_os = "linux")]
fn the_child_leads_a_group_of_its_own_and_orphans_of_other_groups_are_reaped() {
    // `setsid` leaves the group, and the shell in between ends: the process has no other parent then.
    let script = "echo $$; (setsid sh -c 'echo $$; exec sleep 1000' &); exec sleep 1000";
    let mut sidecar = Sidecar::script(&[], script);
    let (child, orphan) = (sidecar.line(), sidecar.line());
    let parent = sidecar.id().to_string();
    let is_child = |id: &str| stat(id) == Some((parent.clone(), id.to_owned()));
    assert!(is_child(&child), "{:?}", stat(&child));
    let is_adopted = || stat(&orphan) == Some((parent.clone(), orphan.clone()));
    eventually("the sidecar is the parent of the orphan", is_adopted);
    kill(&orphan);
    eventually("the orphan is reaped", || !exists(&orphan));
    assert!(is_child(&child));
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code(), 143);
}
