//! The file descriptors of the process, which connections of clients and to backends share.

use std::io;

/// How many descriptors are left for files, logs, listeners and the runtime.
const OTHERS: usize = 64;

/// Whether an error says that the process, or the system, has no free descriptor.
pub(crate) fn are_exhausted(error: &io::Error) -> bool {
    // EMFILE and ENFILE. Windows has WSAEMFILE.
    let codes: &[i32] = if cfg!(windows) { &[10024] } else { &[23, 24] };
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Returns how many clients the descriptors of the process suffice for, each with a connection to a backend. `None` if
/// there is no limit, or if the limit is not known: only Linux shows it without a call of C.
pub(crate) fn clients() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    Some(clients_of(soft_limit(&limits)?))
}

fn soft_limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn clients_of(descriptors: usize) -> usize {
    (descriptors.saturating_sub(OTHERS) / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edge_2_50_the_limit_of_descriptors_is_read_and_halved() {
        let line = |soft: &str| {
            format!(
                "Limit  Soft Limit  Hard Limit  Units\nMax open files      {soft}      4096  files\n"
            )
        };
        assert_eq!(soft_limit(&line("1024")), Some(1024));
        assert_eq!(soft_limit(&line("unlimited")), None);
        assert_eq!(soft_limit("Max cpu time  1  2  seconds\n"), None);
        assert_eq!([1024, 20_064, 64, 0].map(clients_of), [480, 10_000, 1, 1]);
        if cfg!(target_os = "linux") {
            let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
            assert!(limits.contains("Max open files"), "{limits}");
        }
    }

    #[test]
    fn only_a_lack_of_descriptors_is_one() {
        for code in [23, 24] {
            assert_eq!(are_exhausted(&io::Error::from_raw_os_error(code)), !cfg!(windows));
        }
        // ECONNREFUSED.
        assert!(!are_exhausted(&io::Error::from_raw_os_error(111)));
        assert!(!are_exhausted(&io::Error::other("EMFILE")));
    }
}
