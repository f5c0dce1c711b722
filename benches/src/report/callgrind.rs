//! Reads the output of callgrind.

use std::path::Path;

/// Returns the instructions of one part: the number on its `totals:` or `summary:` line.
pub fn total(part: &str) -> Option<u64> {
    let line = part
        .lines()
        .find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Returns the part of the candidate `index`, from files named `out.1`, `out.2` and so on. The parts between two
/// candidates' marks are other code.
pub fn part_of_candidate(directory: &Path, index: usize) -> Option<String> {
    std::fs::read_to_string(directory.join(format!("out.{}", 2 * index + 2))).ok()
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_total_of_a_part_is_found_on_either_line() {
        let part = "version: 1\nevents: Ir\nfn=(1) main\n12 345\nsummary: 9001\n\n";
        assert_eq!(total(part), Some(9001));
        assert_eq!(total("events: Ir\ntotals: 77\n"), Some(77));
        assert_eq!(total("events: Ir Dr\ntotals: 77 12\n"), Some(77));
    }

    #[test]
    fn a_part_without_a_total_has_none() {
        assert_eq!(total("events: Ir\n12 345\n"), None);
        assert_eq!(total("totals: \n"), None);
    }
}
