//! The load: wrk, or threads of this program where wrk is missing.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;
use crate::client::{Client, FIELDS};

/// The connections of a load.
const CONNECTIONS: usize = 64;

/// What a load found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loaded {
    pub requests: f64,
    pub seconds: f64,
    pub p99_micros: f64,
}

/// Whether wrk is installed.
pub fn has_wrk() -> bool {
    Command::new("wrk").arg("--version").output().is_ok()
}

/// Loads a server over 64 connections. Every answer must be a success.
pub fn run(address: SocketAddr, path: &str, seconds: u64, with_wrk: bool) -> Result<Loaded, Error> {
    if with_wrk { wrk(address, path, seconds) } else { threads(address, path, seconds) }
}

fn wrk(address: SocketAddr, path: &str, seconds: u64) -> Result<Loaded, Error> {
    let mut command = Command::new("wrk");
    command.args([
        "-t",
        "1",
        "-c",
        &CONNECTIONS.to_string(),
        "-d",
        &format!("{seconds}s"),
        "--latency",
    ]);
    for (name, value) in FIELDS {
        command.args(["-H", &format!("{name}: {value}")]);
    }
    let output = command.arg(format!("http://{address}{path}")).output()?;
    let text = String::from_utf8(output.stdout)?;
    parse(&text).ok_or_else(|| format!("wrk failed: {text}").into())
}

/// Reads wrk's report. `None` if requests failed.
fn parse(text: &str) -> Option<Loaded> {
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return None;
    }
    let mut loaded = Loaded::default();
    for line in text.lines().map(str::trim) {
        if let Some(time) = line.strip_prefix("99%") {
            loaded.p99_micros = micros(time.trim())?;
        } else if let Some((requests, rest)) = line.split_once(" requests in ") {
            loaded.requests = requests.parse().ok()?;
            loaded.seconds = micros(rest.split(',').next()?)? / 1e6;
        }
    }
    (loaded.requests > 0.0).then_some(loaded)
}

fn micros(time: &str) -> Option<f64> {
    let digits = time.find(|letter: char| letter.is_ascii_alphabetic())?;
    let (number, unit) = time.split_at(digits);
    let factor = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 60e6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

fn threads(address: SocketAddr, path: &str, seconds: u64) -> Result<Loaded, Error> {
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    let one = || -> std::io::Result<Vec<f64>> {
        let mut client = Client::connect(address)?;
        let mut times = Vec::new();
        while Instant::now() < end {
            let sent = Instant::now();
            client.get(path)?;
            times.push(sent.elapsed().as_secs_f64() * 1e6);
        }
        Ok(times)
    };
    let all = thread::scope(|scope| {
        let all: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let mut times = Vec::new();
    for each in all {
        times.extend(each.map_err(|_| "a thread of the load panicked")??);
    }
    times.sort_by(f64::total_cmp);
    let p99_micros = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    Ok(Loaded { requests: times.len() as f64, seconds: begin.elapsed().as_secs_f64(), p99_micros })
}

#[cfg(test)]
mod tests {
    use super::parse;

    const REPORT: &str = "\
Running 1s test @ http://127.0.0.1:1/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.52ms    1.04ms  13.11ms   78.54%
  Latency Distribution
     50%    1.23ms
     99%    5.10ms
  46202 requests in 1.10s, 52.16MB read
Requests/sec:  42011.25
";

    #[test]
    fn a_report_of_wrk_is_read() {
        let loaded = parse(REPORT).unwrap();
        assert_eq!(loaded.requests, 46_202.0);
        assert!((loaded.seconds - 1.1).abs() < 1e-9 && (loaded.p99_micros - 5100.0).abs() < 1e-6);
    }

    #[test]
    fn a_load_with_failures_is_none() {
        assert!(parse(&format!("{REPORT}  Non-2xx or 3xx responses: 1\n")).is_none());
        assert!(parse(&format!("{REPORT}  Socket errors: connect 0, read 3\n")).is_none());
        assert!(parse("").is_none());
    }
}
