//! The mistakes of users do not compile, and the messages say what to write.
//!
//! The snapshots hold the messages of one compiler version. With another version the comparison is
//! skipped. After a change of the library or the compiler, check the output of
//! `TRYBUILD=overwrite cargo test -p buttress-suite --test compile_fail`.

use std::process::Command;

/// The compiler of the snapshots.
const COMPILER: &str = "rustc 1.95.";

/// The value 1 skips these tests. They compile the dependencies a second time in `target/tests`,
/// and later runs reuse that build.
const SKIP: &str = "BUTTRESS_SKIP_COMPILE_FAIL";

#[test]
fn mistakes_do_not_compile_and_the_messages_help() {
    if std::env::var(SKIP).as_deref() == Ok("1") {
        eprintln!("skipped: {SKIP}=1");
        return;
    }
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("there is a compiler");
    let version = String::from_utf8_lossy(&version.stdout);
    if !version.starts_with(COMPILER) {
        eprintln!("skipped: the snapshots are of {COMPILER}x, this is {}", version.trim());
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
