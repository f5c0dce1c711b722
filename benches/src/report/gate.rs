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

/// Where this is set, as in CI, what cannot be compared fails.
const STRICT: &str = "BUTTRESS_REQUIRE_SERVICES";

/// The figures of now, and whether instructions are among them.
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

/// Writes the file that the gate compares with.
pub fn write_baseline() -> ExitCode {
    let (baseline, counted) = measure();
    if !counted {
        eprintln!("There is no valgrind, and a baseline without instructions is none.");
        return ExitCode::FAILURE;
    }
    fs::write(root().join(FILE), baseline.to_text()).expect("the baseline can be written");
    println!("{FILE} is written.");
    ExitCode::SUCCESS
}

/// Fails if a figure grew by more than it may (see [`Baseline`]), or if the rows are not the baseline's. The last line says
/// which it is.
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
    let mut apart = None;
    if baseline.toolchain != now.toolchain {
        let (old, new) = (&baseline.toolchain, &now.toolchain);
        println!("The baseline is of {} for {}, and this is", old.rustc, old.target);
        println!("{} for {}. `{COMMAND}` writes it anew.", new.rustc, new.target);
        apart = Some("the baseline is of another toolchain");
    }
    if !counted {
        apart = Some("there is no valgrind");
    }
    if let Some(why) = apart {
        println!("Instructions, locked instructions and sizes are not compared: {why}.");
    }
    let failed = print(&baseline.compare(&now, apart.is_none()));
    let strict = std::env::var(STRICT).is_ok_and(|value| value == "1");
    match apart {
        Some(why) if strict => {
            Err(format!("{STRICT}=1, and instructions cannot be compared: {why}"))
        }
        _ if failed => Err("buttress is not within the baseline, see above".to_owned()),
        _ => Ok(()),
    }
}

/// The table of verdicts, and what to do about them. Whether any of them fails.
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
            Verdict::Missing => "MISSING, though it is in the baseline".to_owned(),
            Verdict::New => "NEW, and not in the baseline".to_owned(),
        };
        println!("{row:width$}  {told}");
    }
    let any = |of: fn(&Verdict) -> bool| verdicts.iter().any(|(_, verdict)| of(verdict));
    if any(|verdict| matches!(verdict, Verdict::Unmatched(..) | Verdict::Missing | Verdict::New)) {
        println!("What is measured is not the baseline's: `{COMMAND}` writes it anew.");
    }
    if any(|verdict| matches!(verdict, Verdict::Grew(..))) {
        println!("More than 5 % is too much, of locked read-modify-writes more than nothing.");
        println!("If it is worth it, `{COMMAND}` and say why.");
    }
    if any(|verdict| matches!(verdict, Verdict::Shrank(..))) {
        println!("What was won can be held: `{COMMAND}`.");
    }
    any(Verdict::fails)
}
