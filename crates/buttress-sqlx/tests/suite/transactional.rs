//! Transactional idempotency layers over each database: a claim that was taken over, and renewals
//! beside the handler's open transaction.

use std::any::Any;
use std::sync::Arc;

use buttress::idempotency::{
    ClaimId, Claimed, CompleteIn, Completion, Config, Handle, IdempotencyLayer, InvalidKey, Key,
    KeyClaim, Store as _, WithClaim,
};
use buttress::{Answer, Error, ErrorKind, VirtualClock};
use buttress_sim::hooked::{Hook, Hooked, Operation, Run};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer as _, ServiceExt, service_fn};

use crate::db::{Db, SECOND, on_each_database, rng};

on_each_database! {
    a_claim_that_was_taken_over_is_lost
}

/// Reports renewals, and completes claims on the store itself.
#[derive(Clone)]
struct Hooks<St> {
    store: St,
    renewals: Renewals,
}

/// A permit for each renewal that has begun, and for each that was answered.
#[derive(Clone)]
struct Renewals {
    begun: Arc<Semaphore>,
    answered: Arc<Semaphore>,
}

impl<St: Send + Sync + 'static, O: Operation> Hook<O> for Hooks<St> {
    async fn around<T: Any + Send>(&self, operation: O, run: Run<T>) -> Answer<T> {
        if operation.name() != "renew_claim" {
            return run.await;
        }
        self.renewals.begun.add_permits(1);
        let answer = run.await;
        self.renewals.answered.add_permits(1);
        answer
    }
}

impl<Tx: Send, St: CompleteIn<Tx, Vec<u8>>> CompleteIn<Tx, Vec<u8>> for Hooks<St> {
    async fn complete_in(&self, tx: &mut Tx, completion: Completion<'_, Vec<u8>>) -> Answer<()> {
        self.store.complete_in(tx, completion).await
    }
}

type Counted<D> = Hooked<<D as Db>::Store, Hooks<<D as Db>::Store>>;
type Request<D> = WithClaim<u8, Counted<D>, Vec<u8>>;
type Service = BoxCloneSyncService<u8, Vec<u8>, BoxError>;

/// A layer whose leases of 30 seconds the test's `clock` renews.
fn service<D, F>(
    db: &D,
    clock: &VirtualClock,
    detached: bool,
    handler: impl Fn(Request<D>) -> F + Clone + Send + Sync + 'static,
) -> (Service, Handle, Renewals)
where
    D: Db,
    F: Future<Output = Result<Vec<u8>, BoxError>> + Send + 'static,
{
    let renewals =
        Renewals { begun: Arc::new(Semaphore::new(0)), answered: Arc::new(Semaphore::new(0)) };
    let hook = Hooks { store: db.store().clone(), renewals: renewals.clone() };
    let store = Hooked::new(db.store().clone(), hook);
    let key: fn(&u8) -> Result<Key, InvalidKey> = |number| Key::new(&number.to_string());
    let config = Config::new().clock(clock.clock());
    let layer = IdempotencyLayer::transactional(config, store, key).unwrap();
    let (handle, handler) = (layer.handle(), service_fn(handler));
    let service = match detached {
        true => BoxCloneSyncService::new(layer.detached().layer(handler)),
        false => BoxCloneSyncService::new(layer.layer(handler)),
    };
    (service, handle, renewals)
}

/// Caught: the caller got the store's `Fenced` as the error of its handler, and the call counted
/// as failed.
async fn a_claim_that_was_taken_over_is_lost<D: Db>(db: D) {
    for detached in [false, true] {
        let (clock, other) = (VirtualClock::new(), db.clone());
        let number = u8::from(detached);
        let handler = move |WithClaim { claim, .. }: Request<D>| {
            let db = other.clone();
            async move {
                let (key, theirs) = (claim.key().ok_or("no key")?, ClaimId::random(&rng()));
                // The process is paused for longer than its lease.
                db.time().advance(30 * SECOND);
                let claimed = db.store().claim(KeyClaim::new(key, theirs), 30 * SECOND).await?;
                assert_eq!(claimed, Claimed::Owned);
                db.store()
                    .complete(KeyClaim::new(key, theirs), b"theirs".to_vec(), 300 * SECOND)
                    .await?;
                let mut tx = db.begin().await;
                let completed = claim.complete_in(&mut tx, &b"mine".to_vec()).await;
                db.rollback(tx).await;
                completed?;
                Ok(b"mine".to_vec())
            }
        };
        let (service, handle, _) = service(&db, &clock, detached, handler);
        let error = service.clone().oneshot(number).await.unwrap_err();
        let refusal = error.downcast_ref::<Error>().unwrap();
        assert_eq!(refusal.kind(), ErrorKind::ClaimLost);
        assert_eq!(service.oneshot(number).await.unwrap(), b"theirs", "the one answer");
        let stats = handle.stats();
        assert_eq!((stats.fenced, stats.failed, stats.store_failed), (1, 0, 0));
    }
}

/// PostgreSQL answers that the row is locked.
#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_renewal_beside_the_transaction_of_its_claim_is_no_failure_on_postgres() {
    let test = "a_renewal_beside_the_transaction_of_its_claim";
    crate::db::on_postgres(test, |db| beside_an_open_transaction(db, true)).await;
}

/// On SQLite the renewal waits for the writer's turn, and has no answer in its time.
#[tokio::test]
async fn a_renewal_beside_the_transaction_of_its_claim_is_no_failure_on_sqlite() {
    crate::db::on_sqlite(|db| beside_an_open_transaction(db, false)).await;
}

/// Caught: the renewal met the lock of the claim's own transaction. It counted as a failure of a
/// healthy database, and alerts fired.
async fn beside_an_open_transaction<D: Db>(db: D, answers: bool) {
    for commits in [true, false] {
        let (clock, other) = (VirtualClock::new(), db.clone());
        let (open, end) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (opened, ended) = (open.clone(), end.clone());
        let handler = move |WithClaim { claim, .. }: Request<D>| {
            let (db, opened, ended) = (other.clone(), opened.clone(), ended.clone());
            async move {
                let mut tx = db.begin().await;
                claim.complete_in(&mut tx, &b"mine".to_vec()).await?;
                opened.add_permits(1);
                ended.acquire().await?.forget();
                if !commits {
                    db.rollback(tx).await;
                    return Err("rolled back".into());
                }
                db.commit(tx).await;
                Ok(b"mine".to_vec())
            }
        };
        let (service, handle, renewals) = service(&db, &clock, false, handler);
        let number = u8::from(commits);
        // A task that ends with the test: its transaction would block the removal of the schema.
        let mut call = JoinSet::new();
        call.spawn(service.oneshot(number));
        open.acquire().await.unwrap().forget();
        clock.advance(10 * SECOND);
        renewals.begun.acquire().await.unwrap().forget();
        match answers {
            true => renewals.answered.acquire().await.unwrap().forget(),
            false => clock.advance(10 * SECOND),
        }
        // The next renewal shows that the call has seen the failure of the first one.
        while renewals.begun.available_permits() == 0 {
            clock.advance(SECOND / 10);
            tokio::task::yield_now().await;
        }
        let stats = handle.stats();
        assert_eq!((stats.store_failed, stats.fenced, stats.in_flight), (0, 0, 1));
        end.add_permits(1);
        let answer = call.join_next().await.unwrap().unwrap();
        assert_eq!(answer.is_ok(), commits);
        let stats = handle.stats();
        assert_eq!((stats.store_failed, stats.fenced, stats.failed), (0, 0, u64::from(!commits)));
        // The rolled back key is free, so another call can claim it.
        let key = Key::new(&number.to_string()).unwrap();
        let claimed = db.store().claim(KeyClaim::new(&key, ClaimId::random(&rng())), SECOND).await;
        let expected = if commits { Claimed::Done(b"mine".to_vec()) } else { Claimed::Owned };
        assert_eq!(claimed.unwrap(), expected);
    }
}
