//! The selection of a meter: `--candidate NAME`, and any number of `--row PART` and
//! `--exactly ROW`; default: everything.

use crate::row::Row;

#[derive(Clone, Debug, Default)]
pub struct Filter {
    candidate: Option<String>,
    parts: Vec<String>,
    rows: Vec<String>,
}

impl Filter {
    /// Reads the arguments of the program.
    ///
    /// # Panics
    ///
    /// If an argument is none of these.
    pub fn from_arguments() -> Self {
        let mut filter = Self::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--candidate" => filter.candidate = arguments.next(),
                "--row" => filter.parts.extend(arguments.next()),
                "--exactly" => filter.rows.extend(arguments.next()),
                _ => panic!("{argument}? There are --candidate NAME, --row PART and --exactly ROW"),
            }
        }
        filter
    }

    pub fn wants(&self, row: Row, candidate: &str) -> bool {
        self.candidate.as_ref().is_none_or(|name| name == candidate)
            && ((self.parts.is_empty() && self.rows.is_empty())
                || self.parts.iter().any(|part| row.name.contains(part))
                || self.rows.iter().any(|name| name == row.name))
    }
}
