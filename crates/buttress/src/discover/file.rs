use std::fmt::Display;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::instance::Instance;
use super::resolve::Resolve;
use crate::vocabulary::clock::Clock;
use crate::vocabulary::setters::setters;
use crate::vocabulary::spawn::blocking;
use crate::vocabulary::store_error::{StoreError, StoreErrorKind};

/// The largest file in bytes.
const LARGEST: u64 = 1 << 20;
/// The line of a file that is empty on purpose.
const NONE: &str = "none";

/// A resolver that reads a file of instances again and again. [`file`](file()) makes it.
#[derive(Clone, Debug)]
#[must_use]
pub struct File {
    path: PathBuf,
    every: Duration,
    clock: Clock,
    /// The text that was last returned.
    last: Option<String>,
    /// `true` once the file was read.
    read: bool,
}

/// Makes a resolver of the file at `path`, which it reads every 5 seconds.
///
/// A line has an id, an address, and pairs of `key=value`; `weight` is the weight, and other keys are metadata. `#`
/// begins a comment. The id must not appear twice. At most 1 MiB.
///
/// ```text
/// # id        address         and the rest
/// orders-1    10.0.0.1:8001   weight=3 zone=a
/// orders-2    10.0.0.2:8001   zone=b
/// ```
///
/// A file without an instance is an error, because a file that is being written can look empty. A file whose only line
/// is `none` says that no instance exists. Replace the file with a rename, so that no half of it is read. It must be a
/// regular file. A relative path begins at the working directory of the process.
pub fn file(path: impl Into<PathBuf>) -> File {
    let (every, clock) = (Duration::from_secs(5), Clock::default());
    File { path: path.into(), every, clock, last: None, read: false }
}

impl File {
    setters! {
        /// Sets the time between two readings. Default: 5 seconds.
        every(every: Duration);

        /// Sets the clock. Default: tokio's.
        clock(clock: Clock);
    }
}

impl Resolve for File {
    /// Returns the first reading immediately, and later ones when the text of the file has changed.
    ///
    /// # Errors
    /// Returns an error for a file that cannot be read, is too large, or has a line that is not an instance. The
    /// message names the path and the line.
    async fn next(&mut self) -> Result<Vec<Instance>, StoreError> {
        loop {
            if self.read {
                self.clock.sleep(self.every).await;
            }
            self.read = true;
            let path = self.path.clone();
            let text = blocking(move || read(&path))
                .await
                .unwrap_or_else(|| Err(StoreError::transient("the runtime has shut down")));
            let named = |error: StoreError| error.context(self.path.display());
            let text = text.map_err(named)?;
            if self.last.as_ref() != Some(&text) {
                let instances = parse(&text).map_err(named)?;
                self.last = Some(text);
                return Ok(instances);
            }
        }
    }
}

fn read(path: &Path) -> Result<String, StoreError> {
    let failed = |error: std::io::Error| {
        StoreError::transient(format!("cannot read the instances: {error}")).with_source(error)
    };
    // To open a pipe waits for its writer, and the process could not end meanwhile.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(invalid("not a regular file"));
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LARGEST {
        return Err(invalid("the file is larger than 1 MiB"));
    }
    Ok(text)
}

fn invalid(message: impl Display) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, message.to_string())
}

/// Reads the lines of a file.
fn parse(text: &str) -> Result<Vec<Instance>, StoreError> {
    let lines = text.lines().enumerate().map(|(place, line)| {
        let content = line.split('#').next().unwrap_or_default();
        (place + 1, content.split_whitespace().collect::<Vec<_>>())
    });
    let lines: Vec<_> = lines.filter(|(_, words)| !words.is_empty()).collect();
    if let [(_, words)] = lines.as_slice() {
        if words.as_slice() == [NONE] {
            return Ok(Vec::new());
        }
    }
    let mut ids = std::collections::HashSet::new();
    let mut instances = Vec::new();
    for (number, words) in &lines {
        let wrong = |what: &dyn Display| invalid(format_args!("line {number}: {what}"));
        let [id, address, pairs @ ..] = words.as_slice() else {
            return Err(wrong(&"an instance needs an id and an address"));
        };
        if !ids.insert(*id) {
            return Err(wrong(&format_args!("the id \"{id}\" is used twice")));
        }
        let mut instance = Instance::new(*id, *address);
        for pair in pairs {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(wrong(&format_args!("\"{pair}\" is not key=value")));
            };
            instance = match (key, value.parse::<u32>()) {
                ("weight", Ok(weight)) if (1..=Instance::MAX_WEIGHT).contains(&weight) => {
                    instance.with_weight(weight)
                }
                ("weight", _) => {
                    let most = Instance::MAX_WEIGHT;
                    return Err(wrong(&format_args!("the weight \"{value}\" is not 1 to {most}")));
                }
                _ => instance.with_metadata(key, value),
            };
        }
        instances.push(instance);
    }
    if instances.is_empty() {
        return Err(invalid("no instance; a file without instances has the one line `none`"));
    }
    Ok(instances)
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_instance_with_its_pairs() {
        let text = "# two\norders-1  10.0.0.1:8001 weight=3 zone=a # big\n\n  b b:1\n";
        let expected = [
            Instance::new("orders-1", "10.0.0.1:8001").with_weight(3).with_metadata("zone", "a"),
            Instance::new("b", "b:1"),
        ];
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_names_its_line() {
        for (text, expected) in [
            ("a 1\nb", "line 2: an instance needs an id and an address"),
            ("a 1\na 2", "line 2: the id \"a\" is used twice"),
            ("a 1 zone", "line 1: \"zone\" is not key=value"),
            ("a 1 weight=0", "line 1: the weight \"0\" is not 1 to 1000000"),
            ("a 1 weight=-3", "line 1: the weight \"-3\" is not 1 to 1000000"),
            ("none\na 1", "line 1: an instance needs an id and an address"),
            ("", "no instance; a file without instances has the one line `none`"),
            ("# a 1", "no instance; a file without instances has the one line `none`"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{text:?}: {error}");
        }
    }

    /// A pipe once kept the thread of a reading, and with it the process.
    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        for path in ["/dev/null", "/"] {
            let error = read(Path::new(path)).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Invalid, "{path}: {error}");
        }
    }

    #[test]
    fn edge_5_2_a_file_says_itself_that_no_instance_exists() {
        assert_eq!(parse("# on holiday\nnone\n").unwrap(), []);
    }
}
