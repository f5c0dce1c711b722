//! [`Watch`]: that a file is the one which was opened.

use std::path::{Path, PathBuf};

use buttress::StoreError;

use super::place::{Place, absolute};

/// What a store has open. On Unix a file that was deleted, moved away, or replaced by another is written
/// on all the same: whatever is committed then is gone for whoever opens the path next.
///
/// Holds as long as one connection is open: the system gives the number of a file to no other before.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    files: Vec<(PathBuf, Identity)>,
}

/// By what the system knows a file, by whatever name.
type Identity = (u64, u64);

impl Watch {
    /// Looks at the database that was just opened, and at what SQLite keeps beside it. `uri` is what
    /// SQLite says the file is.
    pub(super) fn of(place: &Place, uri: &str) -> Result<Self, StoreError> {
        let Place::File(path) = place else { return Ok(Self::default()) };
        let is_uri = path.to_str().is_some_and(|path| path.starts_with("file:"));
        let path = if is_uri { PathBuf::from(uri) } else { absolute(path) };
        let mut files = Vec::new();
        if let Some(identity) = look(&path)? {
            files.push((path.clone(), identity));
        }
        // As long as the database is open nobody else removes these. They stand beside the file itself,
        // also where the path is a link to it.
        for suffix in ["-wal", "-shm"] {
            let mut path = path.canonicalize().unwrap_or_else(|_| path.clone()).into_os_string();
            path.push(suffix);
            let path = PathBuf::from(path);
            if let Ok(Some(identity)) = look(&path) {
                files.push((path, identity));
            }
        }
        Ok(Self { files })
    }

    /// Whether everything is still there.
    ///
    /// # Errors
    /// `Misconfigured`, with the name of the file that is not.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        for (path, opened) in &self.files {
            if look(path)?.is_some_and(|found| found != *opened) {
                return Err(StoreError::misconfigured(format!(
                    "file {}: another file was put in the place of the one that the store has open; \
                     restore it, or open the store again",
                    path.display()
                )));
            }
        }
        Ok(())
    }
}

#[cfg(unix)]
fn look(path: &Path) -> Result<Option<Identity>, StoreError> {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) => Err(StoreError::misconfigured(format!(
            "file {}: it was deleted or moved while the store has it open, or cannot be looked at; \
             restore it, or open the store again",
            path.display()
        ))
        .with_source(error)),
    }
}

/// Not checked: a file that is open cannot be deleted on Windows.
#[cfg(not(unix))]
fn look(_path: &Path) -> Result<Option<Identity>, StoreError> {
    Ok(None)
}
