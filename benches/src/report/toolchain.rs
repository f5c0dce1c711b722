//! The toolchain and the date of a measurement.

use std::process::Command;
use std::time::SystemTime;

/// The compiler's version and its target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Toolchain {
    pub rustc: String,
    pub target: String,
}

impl Toolchain {
    /// Queries the compiler that cargo uses.
    pub fn current() -> Self {
        let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let host = text.lines().find_map(|line| line.strip_prefix("host: "));
        Self {
            rustc: text.lines().next().unwrap_or("rustc unknown").to_owned(),
            target: host.unwrap_or("unknown").to_owned(),
        }
    }
}

/// Returns today's date in UTC, as in ISO 8601.
pub fn today() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    date(since.map_or(0, |since| since.as_secs() / 86_400))
}

/// Returns the date of a day counted from 1 January 1970. The year begins in March here, so that
/// the leap day is its last day.
fn date(day: u64) -> String {
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + later)
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(20_513), "2026-03-01");
        assert_eq!(date(20_818), "2026-12-31");
    }
}
