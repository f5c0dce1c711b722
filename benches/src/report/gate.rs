//! `cargo benchmarks gate` and `cargo benchmarks baseline`: buttress alone, in seconds once built.

use std::fs;
use std::process::ExitCode;

use super::baseline::{Baseline, COMMAND, FILE, Verdict};
use super::contention;
use super::figures::{Table, field};
use super::programs::{Programs, With, root};
use super::size;
use super::toolchain::Toolchain;
use crate::patterns::BUTTRESS;

/// If it is 1, as in CI, an impossible comparison fails.
const STRICT: &str = "BUTTRESS_REQUIRE_SERVICES";

/// Returns the current figures, and whether instructions are among them.
fn measure() -> (Baseline, bool) {
    let only = ["--candidate", BUTTRESS];
    let programs = Programs::build(&["instructions", "allocations", "contention"], With::Nothing);
    let mut table = Table::default();
    let counted = programs.instructions(&mut table, &only);
    programs.allocations(&mut table, &only);
    if counted {
        programs.contention(&mut table, &[&only[..], &contention::only()].concat());
        size::measure(&mut table, |candidate| candidate == BUTTRESS);
    }
    (Baseline::new(Toolchain::current(), &table), counted)
}

/// Writes the file that the gate reads.
pub fn write_baseline() -> ExitCode {
    let (baseline, counted) = measure();
    if !counted {
        eprintln!("valgrind is missing, and a baseline needs instructions. Install valgrind.");
        return ExitCode::FAILURE;
    }
    fs::write(root().join(FILE), baseline.to_text()).expect("the baseline can be written");
    println!("{FILE} is written.");
    ExitCode::SUCCESS
}

/// Fails if a figure grew by more than its tolerance (see [`Baseline`]), or if the rows differ from
/// the baseline. The last line is the result.
pub fn gate() -> ExitCode {
    match compare() {
        Ok(()) => {
            println!("passed");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Result<(), String> {
    let text = fs::read_to_string(root().join(FILE)).map_err(|error| error.to_string());
    let baseline = text.and_then(|text| Baseline::from_text(&text));
    let baseline = baseline.map_err(|why| format!("{FILE}: {why}. `{COMMAND}` writes it."))?;
    let (now, counted) = measure();
    let mut incomparable = None;
    if baseline.toolchain != now.toolchain {
        let (old, new) = (&baseline.toolchain, &now.toolchain);
        println!("The baseline was made with {} for {}, this build with", old.rustc, old.target);
        println!("{} for {}. Run `{COMMAND}` to write a new baseline.", new.rustc, new.target);
        incomparable = Some("the baseline was made with another toolchain");
    }
    if !counted {
        incomparable = Some("valgrind is missing");
    }
    if let Some(why) = incomparable {
        println!("Instructions, locked instructions and sizes are not compared: {why}.");
    }
    let failed = print(&baseline.compare(&now, incomparable.is_none()));
    let strict = std::env::var(STRICT).is_ok_and(|value| value == "1");
    match incomparable {
        Some(why) if strict => {
            Err(format!("{STRICT}=1, and instructions cannot be compared: {why}"))
        }
        _ if failed => Err("figures exceed the baseline, see above".to_owned()),
        _ => Ok(()),
    }
}

/// Prints the table of verdicts and instructions. Returns whether any verdict fails.
fn print(verdicts: &[(String, Verdict)]) -> bool {
    let width = verdicts.iter().map(|(row, _)| row.len()).max().unwrap_or(0);
    for (row, verdict) in verdicts {
        let told = match verdict {
            Verdict::Same => "as before".to_owned(),
            Verdict::Grew(figure, old, new) => format!("{figure} GREW from {old} to {new}"),
            Verdict::Shrank(figure, old, new) => format!("{figure} shrank from {old} to {new}"),
            Verdict::Unmatched(figure, old, new) => {
                format!("{figure} on ONE SIDE ONLY: was {}, is {}", field(*old), field(*new))
            }
            Verdict::Missing => "MISSING: in the baseline, not measured".to_owned(),
            Verdict::New => "NEW: measured, not in the baseline".to_owned(),
        };
        println!("{row:width$}  {told}");
    }
    let any = |of: fn(&Verdict) -> bool| verdicts.iter().any(|(_, verdict)| of(verdict));
    if any(|verdict| matches!(verdict, Verdict::Unmatched(..) | Verdict::Missing | Verdict::New)) {
        println!(
            "The measured rows differ from the baseline. Run `{COMMAND}` to write a new baseline."
        );
    }
    if any(|verdict| matches!(verdict, Verdict::Grew(..))) {
        println!("A figure may grow by at most 5 %, locked read-modify-writes may not grow.");
        println!("If the growth is justified, run `{COMMAND}` and explain it in the commit.");
    }
    if any(|verdict| matches!(verdict, Verdict::Shrank(..))) {
        println!("Run `{COMMAND}` to keep the improvement.");
    }
    any(Verdict::fails)
}
