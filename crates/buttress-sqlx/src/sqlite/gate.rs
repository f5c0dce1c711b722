//! [`Gate`]: the order of writers to a file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use buttress::StoreError;
use tokio::sync::OwnedMutexGuard;

use super::place::Place;
use crate::error::too_slow;
use crate::time::within;

/// The queue of the writers to one file in this process: first come, first served. SQLite itself
/// has no order: waiting writers retry.
#[derive(Clone)]
pub(super) struct Gate {
    /// A fair lock.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Held while writing.
pub(super) type Turn = OwnedMutexGuard<()>;

impl Gate {
    /// Returns the gate of a database. All names of one file have the same gate.
    pub(super) fn of(place: &Place) -> Self {
        /// Guards only the map. A new gate removes unused ones.
        static GATES: Mutex<Option<HashMap<PathBuf, Weak<tokio::sync::Mutex<()>>>>> =
            Mutex::new(None);
        let path = match place {
            Place::File(path) => canonical(path),
            Place::Memory(_) => place.path(),
        };
        let mut gates = GATES.lock().unwrap_or_else(PoisonError::into_inner);
        let gates = gates.get_or_insert_default();
        if let Some(turn) = gates.get(&path).and_then(Weak::upgrade) {
            return Self { turn };
        }
        gates.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        gates.insert(path, Arc::downgrade(&turn));
        Self { turn }
    }

    /// Waits for a turn, up to `limit`.
    pub(super) async fn enter(&self, limit: Duration) -> Result<Turn, StoreError> {
        let turn = within(limit, self.turn.clone().lock_owned()).await;
        turn.ok_or_else(|| too_slow("waiting for other writers of the file", limit))
    }
}

/// Returns the same name for all paths to a file, also before the file exists.
fn canonical(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate_of(path: &Path) -> Gate {
        Gate::of(&Place::File(path.to_owned()))
    }

    #[test]
    fn one_file_has_one_gate() {
        let folder = std::env::temp_dir();
        let file = format!("buttress-gate-{}", std::process::id());
        let one = gate_of(&folder.join(&file));
        let other = gate_of(&folder.join(".").join(&file));
        assert!(Arc::ptr_eq(&one.turn, &other.turn));
        assert!(!Arc::ptr_eq(&one.turn, &gate_of(&folder.join("another")).turn));
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_in_the_order_of_asking_and_waits_have_an_end() {
        let gate = gate_of(&std::env::temp_dir().join("buttress-gate-turns"));
        let limit = Duration::from_secs(1);
        let turn = gate.enter(limit).await.unwrap();
        assert!(gate.enter(limit).await.unwrap_err().is_transient());
        let order = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..8)
            .map(|n| {
                let (gate, order) = (gate.clone(), order.clone());
                tokio::spawn(async move {
                    let _turn = gate.enter(limit).await.unwrap();
                    tokio::task::yield_now().await;
                    order.lock().unwrap().push(n);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(turn);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..8).collect::<Vec<_>>());
    }
}
