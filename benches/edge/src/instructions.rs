//! Instructions per request, counted by callgrind. They need no quiet machine.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::candidates::{self, BARE, Backend, FULL, MANY_ROUTES, ONE_ROUTE, ROUTES};
use crate::client::{Client, SMALL};
use crate::server::{Server, free_address};
use crate::toolchain::Toolchain;
use crate::{Error, callgrind, root};

const ROWS: [&str; 5] = [BARE, ONE_ROUTE, ROUTES, MANY_ROUTES, FULL];
const FEW: u64 = 500;
const MANY: u64 = 2_500;
/// The allowed growth of a row in per cent.
const TOLERANCE: f64 = 5.0;
const FILE: &str = "baseline.tsv";
const COMMAND: &str = "cargo run --release --manifest-path benches/edge/Cargo.toml -- baseline";

/// The instructions per request of each row, in user space. `None` without valgrind.
pub fn count(backend: &Backend) -> Result<Option<Vec<(&'static str, f64)>>, Error> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return Ok(None);
    }
    let each = |name| {
        let few = of_requests(name, FEW, backend)?;
        let many = of_requests(name, MANY, backend)?;
        Ok((name, (many - few) / (MANY - FEW) as f64))
    };
    ROWS.into_iter().map(each).collect::<Result<_, Error>>().map(Some)
}

/// Counts the instructions of a process that answers `requests` requests, one after the other, on one connection.
fn of_requests(name: &'static str, requests: u64, backend: &Backend) -> Result<f64, Error> {
    let listen = free_address()?;
    let file = std::env::temp_dir().join(format!("edge-bench-{}.callgrind", std::process::id()));
    let arguments = candidates::arguments(name, listen, backend)?;
    let (program, rest) = arguments.split_first().ok_or("no program")?;
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", file.display()));
    command.arg(crate::built()?.join(program)).args(rest);
    let server = Server::start(command, listen)?;
    let mut client = Client::connect(listen)?;
    for _ in 0..requests {
        client.get(SMALL)?;
    }
    drop(client);
    let status = server.finish()?;
    let text = fs::read_to_string(&file)?;
    fs::remove_file(&file)?;
    let total = callgrind::total(&text).ok_or_else(|| format!("{name}: no total, {status}"))?;
    Ok(total as f64)
}

fn baseline_file() -> PathBuf {
    root().join(FILE)
}

fn head() -> String {
    let Toolchain { rustc, target } = Toolchain::current();
    format!("# {rustc}\n# {target}\n# written by `{COMMAND}`\nrow\tinstructions\n")
}

fn measure() -> Result<Option<Vec<(&'static str, f64)>>, Error> {
    count(&Backend::start()?)
}

/// Writes the file that the gate reads.
pub fn write_baseline() -> Result<(), Error> {
    let rows = measure()?.ok_or("a baseline needs valgrind")?;
    let rows: String = rows.iter().map(|(name, count)| format!("{name}\t{count:.0}\n")).collect();
    fs::write(baseline_file(), head() + &rows)?;
    println!("benches/edge/{FILE} is written.");
    Ok(())
}

/// Fails if a row grew by more than 5 % over the baseline, or if the rows differ.
pub fn gate() -> Result<(), Error> {
    let text = fs::read_to_string(baseline_file())?;
    let strict = std::env::var("BUTTRESS_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
    let incomparable = |why: &str| -> Result<(), Error> {
        if strict {
            return Err(format!("instructions cannot be compared: {why}").into());
        }
        println!("Instructions are not compared: {why}.");
        Ok(())
    };
    let Some(old) = text.strip_prefix(&head()) else {
        return incomparable("the baseline was made with another toolchain");
    };
    let Some(now) = measure()? else {
        return incomparable("valgrind is missing");
    };
    let verdicts = compare(&parse(old)?, &now);
    for (name, verdict, _) in &verdicts {
        println!("{name}: {verdict}");
    }
    if verdicts.iter().any(|(_, _, fails)| *fails) {
        return Err(format!(
            "If the change is justified, run `{COMMAND}` and explain it in the commit."
        )
        .into());
    }
    println!("passed");
    Ok(())
}

fn parse(rows: &str) -> Result<Vec<(String, f64)>, Error> {
    let row = |line: &str| {
        let (name, count) = line.split_once('\t').ok_or("a row without a tab")?;
        Ok((name.to_owned(), count.parse()?))
    };
    rows.lines().map(row).collect()
}

/// Returns for each row what became of it, and whether that fails the gate.
fn compare(old: &[(String, f64)], now: &[(&str, f64)]) -> Vec<(String, String, bool)> {
    let mut verdicts = Vec::new();
    for (name, count) in now {
        let verdict = match old.iter().find(|(old, _)| old == name) {
            None => ("NEW: not in the baseline".to_owned(), true),
            Some((_, before)) => {
                let change = (count / before - 1.0) * 100.0;
                let text = format!("{count:.0}, was {before:.0}: {change:+.1} %");
                (text, change > TOLERANCE)
            }
        };
        verdicts.push(((*name).to_owned(), verdict.0, verdict.1));
    }
    for (name, _) in old.iter().filter(|(old, _)| !now.iter().any(|(name, _)| name == old)) {
        verdicts.push((name.clone(), "MISSING: not measured".to_owned(), true));
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::{compare, parse};

    #[test]
    fn a_row_may_grow_by_five_per_cent_and_must_be_on_both_sides() {
        let old = parse("one\t1000\ntwo\t1000\ngone\t1\n").unwrap();
        let verdicts = compare(&old, &[("one", 1049.0), ("two", 1051.0), ("new", 1.0)]);
        let fails: Vec<bool> = verdicts.iter().map(|(_, _, fails)| *fails).collect();
        assert_eq!(fails, [false, true, true, true]);
        assert_eq!(verdicts[1].1, "1051, was 1000: +5.1 %");
        assert!(parse("one 1000").is_err() && parse("one\tx").is_err());
    }
}
