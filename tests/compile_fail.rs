//! The mistakes users make do not compile, and the message says what to write.
//!
//! The snapshots hold the words of one compiler; another one says the same differently, so there the
//! comparison is skipped. After a change of the library, or of the compiler, look at what
//! `TRYBUILD=overwrite cargo test -p buttress-suite --test compile_fail` writes.

use std::process::Command;

/// The compiler of the snapshots.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn mistakes_do_not_compile_and_the_messages_help() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("there is a compiler");
    let version = String::from_utf8_lossy(&version.stdout);
    if !version.starts_with(COMPILER) {
        eprintln!("skipped: the snapshots are of {COMPILER}x, this is {}", version.trim());
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
