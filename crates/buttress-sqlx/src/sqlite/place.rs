//! [`Place`]: the location of a database, in a file or in memory.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use buttress::InvalidConfig;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};

/// The location of a database.
#[derive(Clone, Debug)]
pub(super) enum Place {
    File(PathBuf),
    Memory(Memory),
}

impl Place {
    /// Refuses paths that SQLite takes for a temporary database. Each connection would get a
    /// separate one.
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        let Self::File(path) = self else { return Ok(()) };
        let refused =
            |bound: &str| Err(InvalidConfig::new("path", format!("\"{}\"", path.display()), bound));
        let Some(text) = path.to_str() else { return refused("UTF-8") };
        if text.contains('\0') {
            return refused("a path without U+0000");
        }
        if is_transient(text) {
            return refused(
                "the path of a file; for a database in memory use SqliteConfig::in_memory()",
            );
        }
        Ok(())
    }

    /// Returns options that open the database; `create` says whether they create a missing file.
    pub(super) fn options(&self, create: bool) -> SqliteConnectOptions {
        let options = SqliteConnectOptions::new();
        match self {
            Self::File(path) => options
                .filename(without_creation(path, create))
                .create_if_missing(create)
                .journal_mode(SqliteJournalMode::Wal),
            Self::Memory(memory) => {
                options.filename(memory.name()).vfs("memdb").create_if_missing(true)
            }
        }
    }

    /// Returns the name of the database for people.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Memory(memory) => PathBuf::from(memory.name()),
        }
    }
}

/// Removes the creation of the file from a URI.
fn without_creation(path: &Path, create: bool) -> PathBuf {
    match path.to_str() {
        Some(text) if !create && text.starts_with("file:") => {
            text.replace("mode=rwc", "mode=rw").into()
        }
        _ => path.to_owned(),
    }
}

/// Whether SQLite makes a database of it that connections do not share, or that no file keeps.
fn is_transient(text: &str) -> bool {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    let mut pairs = query.split('&').map(decoded);
    let in_memory = pairs.any(|pair| pair == "mode=memory" || pair == "vfs=memdb");
    let file = path.strip_prefix("file:").map(|path| decoded(path.trim_start_matches('/')));
    let is_nothing = file.as_ref().map_or(path.is_empty(), |file| file.is_empty());
    let name = file.as_deref().unwrap_or(path);
    in_memory || is_nothing || name == ":memory:" || name.ends_with("::memory:")
}

/// Decodes the percent signs in a part of a URI.
fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        let mut digits = rest.clone();
        let code = match byte {
            b'%' => digits.next().zip(digits.next()).and_then(|(high, low)| hex(high, low)),
            _ => None,
        };
        if code.is_some() {
            rest = digits;
        }
        bytes.push(code.unwrap_or(byte));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// A database in memory, which the clones of a configuration share while a store has it open.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(Arc<Mutex<Current>>);

/// The database that is open, or the last one that was open.
#[derive(Debug, Default)]
struct Current {
    number: u64,
    stores: Weak<()>,
}

/// Held by each store of a database in memory. After the last one is dropped, the next store begins
/// with an empty database.
pub(super) type Held = Arc<()>;

impl Memory {
    /// Returns the database that is open, or a new one.
    pub(super) fn hold(&self) -> Held {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = current.stores.upgrade() {
            return held;
        }
        let held = Held::default();
        *current = Current { number: next(), stores: Arc::downgrade(&held) };
        held
    }

    /// Returns the name under which SQLite keeps the database in this process.
    fn name(&self) -> String {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if current.number == 0 {
            current.number = next();
        }
        // All connections of the process share a name that begins with a slash.
        format!("/buttress-in-memory-{}", current.number)
    }
}

/// Returns a number that no earlier database of this process has. A relaxed counter, because no
/// other data depends on it.
fn next() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Returns the absolute path of a file, because the working directory of the process may change.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_refused() {
        for text in [
            "",
            ":memory:",
            "file:",
            "file://",
            "file::memory:",
            "file::memory:?cache=shared",
            "file:%3amemory%3A",
            "file:?cache=private",
            "file:x?mode=memory",
            "file:x?cache=shared&mode=memory#y",
            "file:x?mo%64e=%6demory",
            "file:/x?vfs=memdb",
            "sqlite::memory:",
            "sqlite:x?mode=memory",
        ] {
            assert!(Place::File(text.into()).check().is_err(), "{text}");
        }
        for text in
            ["x", "memory", "a:memory:", "file:x", "file:/x?mode=rwc", "x?y", "%", "file:%4"]
        {
            assert!(Place::File(text.into()).check().is_ok(), "{text}");
        }
        assert!(Place::File("a\0b".into()).check().is_err());
        assert!(Place::Memory(Memory::default()).check().is_ok());
    }

    #[test]
    fn a_database_in_memory_is_shared_until_its_last_store_is_gone() {
        let (memory, other) = (Memory::default(), Memory::default());
        let one = memory.hold();
        let name = memory.name();
        let two = memory.clone().hold();
        assert_eq!((memory.name(), memory.clone().name()), (name.clone(), name.clone()));
        assert_ne!(other.name(), name);
        drop(one);
        assert_eq!(memory.name(), name);
        drop(two);
        assert_eq!(memory.name(), name, "of the last one, until there is a new one");
        let _next = memory.hold();
        assert_ne!(memory.name(), name);
    }
}
