//! A folder that is removed afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder next to this program: on a disk, while a temporary folder may be in memory.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Creates an empty folder.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let program = std::env::current_exe().expect("this program has a path");
        let beside = program.parent().expect("it is in a folder");
        let path = beside.join(format!("durable-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("the target folder can be written to");
        Self(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // On an error the rest stays in the target folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}
