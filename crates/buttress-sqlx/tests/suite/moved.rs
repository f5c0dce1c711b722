//! Files that are deleted, moved or replaced while a store has them open.
#![cfg(unix)]

use std::path::{Path, PathBuf};

use buttress::idempotency::{self, ClaimId, Key, KeyClaim};
use buttress::{StoreError, StoreErrorKind};
use buttress_durable::outbox::{MessageId, NewMessage, RelayId, Renewal, Store as _, Write};
use buttress_durable::saga::{Page, Status, Store as _, TakeOver, WorkerId};
use buttress_sqlx::{SqliteConfig, SqliteStore};
use sqlx::ConnectOptions;

use crate::db::{SECOND, fresh_path, remove};
use crate::sagas::{append, changed, new_saga};

struct File(PathBuf);

impl File {
    fn new() -> Self {
        Self(fresh_path())
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.0.clone().into_os_string();
        path.push(suffix);
        path.into()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        remove(&self.0);
        remove(&self.beside("-moved"));
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, StoreError>, file: &Path) {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}

/// Runs every operation of a store. None may report success.
async fn nothing_works(store: &SqliteStore, saga: buttress_durable::saga::SagaId, file: &Path) {
    refused(store.create(new_saga(WorkerId::new(1))).await, file);
    let end = changed(append(saga, 1, 1), |more| more.status = Status::Completed);
    refused(store.append(end).await, file);
    refused(store.load(saga).await, file);
    refused(store.list(Page::first(9)).await, file);
    refused(store.take_abandoned(TakeOver::new(WorkerId::new(2), ("order", 3), 9)).await, file);
    refused(store.begin().await, file);
    refused(store.backlog().await, file);
    refused(store.lease_partitions(Renewal::new(RelayId::new(1), SECOND, &[])).await, file);
    let (key, claim) = (Key::new("k").unwrap(), ClaimId::new(1));
    refused(idempotency::Store::claim(store, KeyClaim::new(&key, claim), SECOND).await, file);
    refused(idempotency::Store::outcome(store, KeyClaim::new(&key, claim)).await, file);
}

async fn opened(file: &File) -> (SqliteStore, buttress_durable::saga::SagaId) {
    let store = SqliteStore::open(SqliteConfig::new(&file.0)).await.unwrap();
    let saga = new_saga(WorkerId::new(1));
    store.create(saga.clone()).await.unwrap();
    (store, saga.id)
}

#[tokio::test]
async fn a_deleted_file_is_an_error_and_not_made_again() {
    let file = File::new();
    let (store, saga) = opened(&file).await;
    remove(&file.0);
    nothing_works(&store, saga, &file.0).await;
    // A pool of the user's does not create it either.
    assert!(store.config().connect_options().connect().await.is_err());
    assert!(!file.0.exists(), "only the first connection creates");
    drop(store);
    let store = SqliteStore::open(SqliteConfig::new(&file.0)).await.unwrap();
    assert_eq!(store.load(saga).await.unwrap(), None);
}

/// Deleted before the store has written anything, when no connection was open.
#[tokio::test]
async fn a_file_deleted_right_after_it_was_opened() {
    let file = File::new();
    let store = SqliteStore::open(SqliteConfig::new(&file.0)).await.unwrap();
    remove(&file.0);
    std::fs::write(&file.0, "").unwrap();
    refused(store.create(new_saga(WorkerId::new(1))).await, &file.0);
    assert_eq!(std::fs::metadata(&file.0).unwrap().len(), 0, "nothing was written to another file");
}

#[tokio::test]
async fn a_replaced_file_is_an_error_and_is_left_alone() {
    let (file, backup) = (File::new(), File::new());
    let (store, saga) = opened(&file).await;
    let (other, kept) = opened(&backup).await;
    other.close().await;
    drop(other);
    let backup_alone = SqliteStore::open(SqliteConfig::new(&backup.0)).await.unwrap();
    assert!(backup_alone.load(kept).await.unwrap().is_some());
    drop(backup_alone);
    std::fs::rename(&backup.0, &file.0).unwrap();
    nothing_works(&store, saga, &file.0).await;
    nothing_works(&store, saga, &file.0).await;
}

#[tokio::test]
async fn a_moved_file_works_again_once_it_is_back() {
    let file = File::new();
    let (store, saga) = opened(&file).await;
    let moved = file.beside("-moved");
    std::fs::rename(&file.0, &moved).unwrap();
    nothing_works(&store, saga, &file.0).await;
    std::fs::rename(&moved, &file.0).unwrap();
    assert!(store.load(saga).await.unwrap().is_some());
    store.create(new_saga(WorkerId::new(1))).await.unwrap();
    store.begin().await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn a_transaction_of_the_user_does_not_commit_into_nothing() {
    let file = File::new();
    let (store, _) = opened(&file).await;
    let mut tx = store.begin().await.unwrap();
    store.write(&mut tx, &NewMessage::new(MessageId::new(1), "k", "x")).await.unwrap();
    remove(&file.0);
    refused(tx.commit().await, &file.0);
}

/// The log beside the file belongs to the database like the file.
#[tokio::test]
async fn a_deleted_log_is_an_error() {
    for suffix in ["-wal", "-shm"] {
        let file = File::new();
        let (store, saga) = opened(&file).await;
        std::fs::remove_file(file.beside(suffix)).unwrap();
        nothing_works(&store, saga, &file.beside(suffix)).await;
    }
}

#[tokio::test]
async fn a_link_that_points_elsewhere_is_another_file() {
    let (one, two, link) = (File::new(), File::new(), File::new());
    drop(opened(&two).await);
    let (store, _) = opened(&one).await;
    std::os::unix::fs::symlink(&one.0, &link.0).unwrap();
    let linked = SqliteStore::open(SqliteConfig::new(&link.0)).await.unwrap();
    linked.create(new_saga(WorkerId::new(1))).await.unwrap();
    std::fs::remove_file(&link.0).unwrap();
    std::os::unix::fs::symlink(&two.0, &link.0).unwrap();
    refused(linked.create(new_saga(WorkerId::new(1))).await, &link.0);
    store.create(new_saga(WorkerId::new(1))).await.unwrap();
}

#[tokio::test]
async fn a_file_named_by_a_uri_is_watched_too() {
    let file = File::new();
    let uri = format!("file:{}?mode=rwc&cache=private", file.0.display());
    let store = SqliteStore::open(SqliteConfig::new(uri)).await.unwrap();
    store.create(new_saga(WorkerId::new(1))).await.unwrap();
    remove(&file.0);
    let error = store.create(new_saga(WorkerId::new(1))).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    assert!(!file.0.exists());
}
