//! [`Watch`]: checks that a path still names the opened file.

use std::path::{Path, PathBuf};

use buttress::StoreError;

use super::place::{Place, absolute};

/// The files that a store has open. On Unix a process can still write to a file that was deleted,
/// moved or replaced. The next process that opens the path does not see those writes.
///
/// Valid while one connection is open: until then the system does not reuse the inode of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    files: Vec<(PathBuf, Identity)>,
}

/// The device and inode of a file, which identify it under any name.
type Identity = (u64, u64);

impl Watch {
    /// Records the identity of the database that was just opened, and of the files that SQLite
    /// keeps beside it. `uri` is the file according to SQLite.
    pub(super) fn of(place: &Place, uri: &str) -> Result<Self, StoreError> {
        let Place::File(path) = place else { return Ok(Self::default()) };
        let is_uri = path.to_str().is_some_and(|path| path.starts_with("file:"));
        let path = if is_uri { PathBuf::from(uri) } else { absolute(path) };
        let mut files = Vec::new();
        if let Some(identity) = identity_of(&path)? {
            files.push((path.clone(), identity));
        }
        // No other process removes these files while the database is open. They are beside the file
        // itself, also if the path is a link.
        for suffix in ["-wal", "-shm"] {
            let mut path = path.canonicalize().unwrap_or_else(|_| path.clone()).into_os_string();
            path.push(suffix);
            let path = PathBuf::from(path);
            if let Ok(Some(identity)) = identity_of(&path) {
                files.push((path, identity));
            }
        }
        Ok(Self { files })
    }

    /// Checks that all files are still there.
    ///
    /// # Errors
    /// Returns `Misconfigured`, with the name of the missing or replaced file.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        for (path, opened) in &self.files {
            if identity_of(path)?.is_some_and(|found| found != *opened) {
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
fn identity_of(path: &Path) -> Result<Option<Identity>, StoreError> {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) => Err(StoreError::misconfigured(format!(
            "file {}: it was deleted or moved while the store has it open, or its metadata cannot be read; \
             restore it, or open the store again",
            path.display()
        ))
        .with_source(error)),
    }
}

/// Not checked: a file that is open cannot be deleted on Windows.
#[cfg(not(unix))]
fn identity_of(_path: &Path) -> Result<Option<Identity>, StoreError> {
    Ok(None)
}
