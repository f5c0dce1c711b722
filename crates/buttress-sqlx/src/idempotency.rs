//! Idempotency between the trait and the tables: the operations of the writer, and the answers for
//! a key that a claim did not get.

use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;

use buttress::idempotency::{ClaimId, Claimed, Fingerprint, Key, KeyClaim};
use buttress::{Answer, StoreError};

use crate::bounds;
use crate::columns::Columns;
use crate::queue::{Job, Op, operations, pass_on};
use crate::time;

/// The input of a claim.
pub(crate) struct Claim {
    pub key: Key,
    pub claim: ClaimId,
    pub fingerprint: Option<Fingerprint>,
    pub lease: Duration,
}

/// The input of a completion.
pub(crate) struct Complete {
    pub key: Key,
    pub claim: ClaimId,
    /// `None` for a result that is not kept.
    pub value: Option<Vec<u8>>,
    pub lifetime: Duration,
}

/// The input of a renewal.
pub(crate) struct Renew {
    pub key: Key,
    pub claim: ClaimId,
    pub lease: Duration,
}

/// The input of a release.
pub(crate) struct Release {
    pub key: Key,
    pub claim: ClaimId,
}

/// An operation on a key.
pub(crate) trait OfKey {
    fn key(&self) -> &Key;
    #[cfg(feature = "postgres")]
    fn claim(&self) -> ClaimId;
}

macro_rules! of_key {
    ($($operation:ident)+) => {$(
        impl OfKey for $operation {
            fn key(&self) -> &Key {
                &self.key
            }

            #[cfg(feature = "postgres")]
            fn claim(&self) -> ClaimId {
                self.claim
            }
        }
    )+};
}

of_key!(Claim Complete Renew Release);

impl Claim {
    pub(crate) fn new(claim: KeyClaim<'_>, lease: Duration) -> Self {
        let KeyClaim { key, id, fingerprint, .. } = claim;
        Self { key: key.clone(), claim: id, fingerprint, lease }
    }
}

impl Complete {
    pub(crate) fn new(claim: KeyClaim<'_>, value: Option<Vec<u8>>, lifetime: Duration) -> Self {
        Self { key: claim.key.clone(), claim: claim.id, value, lifetime }
    }
}

impl Renew {
    pub(crate) fn new(claim: KeyClaim<'_>, lease: Duration) -> Self {
        Self { key: claim.key.clone(), claim: claim.id, lease }
    }
}

impl Release {
    pub(crate) fn new(claim: KeyClaim<'_>) -> Self {
        Self { key: claim.key.clone(), claim: claim.id }
    }
}

pub(crate) type ClaimJob = Job<Claim, Claimed<Vec<u8>>>;
pub(crate) type CompleteJob = Job<Complete, ()>;
pub(crate) type RenewJob = Job<Renew, ()>;
pub(crate) type ReleaseJob = Job<Release, ()>;

// A wave is written in this order.
operations!(ClaimOp {
    Claim(ClaimJob) in claims,
    Complete(CompleteJob) in completes,
    Renew(RenewJob) in renews,
    Release(ReleaseJob) in releases,
});

/// Answers the operations whose keys a statement has written. Returns the others.
pub(crate) fn settle_written<'j, I: OfKey, R>(
    jobs: Vec<&'j mut Job<I, R>>,
    written: &HashSet<String>,
    answer: impl Fn() -> R,
) -> Vec<&'j mut Job<I, R>> {
    let (done, rest): (Vec<_>, Vec<_>) =
        jobs.into_iter().partition(|job| written.contains(job.input.key().as_str()));
    for job in done {
        job.settle(Ok(answer()));
    }
    rest
}

impl ClaimOp {
    fn key(&self) -> &Key {
        match self {
            Self::Claim(job) => &job.input.key,
            Self::Complete(job) => &job.input.key,
            Self::Renew(job) => &job.input.key,
            Self::Release(job) => &job.input.key,
        }
    }
}

impl Op for ClaimOp {
    fn subject(&self) -> u128 {
        Fingerprint::of(self.key().as_str().as_bytes()).get()
    }

    fn rows(&self) -> usize {
        1
    }

    fn bytes(&self) -> usize {
        let value = match self {
            Self::Complete(job) => job.input.value.as_ref().map_or(0, Vec::len),
            _ => 0,
        };
        self.key().as_str().len() + value
    }

    pass_on!(Claim Complete Renew Release);
}

/// The claim is in flight.
pub(crate) const IN_FLIGHT: i64 = 1;
/// The key has a result.
pub(crate) const DONE: i64 = 2;
/// The work is done, and its result is not kept.
pub(crate) const NOT_KEPT: i64 = 3;

/// The row of a key.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    claim: u128,
    fingerprint: Option<u128>,
    status: i64,
    until: i64,
    /// The granted length of the lease, or of the lifetime of the result.
    length: i64,
    value: Option<Vec<u8>>,
    /// When the row was read.
    now: i64,
}

impl Found {
    /// Returns when the lease, or the result, ends: at most its length from now.
    fn end(&self) -> i64 {
        time::bounded(self.until, self.length, self.now)
    }

    /// Whether the row has a later end, which must be shortened.
    pub(crate) fn is_late(&self) -> bool {
        self.end() < self.until
    }

    /// Whether `claim` is in flight. A write that skipped the row found it locked.
    fn is_held_by(&self, claim: ClaimId) -> bool {
        self.claim == claim.get() && self.status == IN_FLIGHT
    }
}

/// The first columns of the row of a key.
pub(crate) const FOUND: &str = "key, claim, fingerprint, status, until, value, length";

/// Reads the row of a key, whose first columns are [`FOUND`], as of `now`.
pub(crate) fn found<R: Columns>(row: &R, now: i64) -> sqlx::Result<Found> {
    Ok(Found {
        claim: row.id(1)?,
        fingerprint: row.id_or_null(2)?,
        status: row.int(3)?,
        until: row.int(4)?,
        value: row.bytes_or_null(5)?,
        length: row.int(6)?,
        now,
    })
}

/// The row of a key; an error if the row is damaged.
pub(crate) type FoundRow = Answer<Found>;

/// Returns the error of a key whose row cannot be read.
pub(crate) fn unreadable(key: &str, error: sqlx::Error) -> StoreError {
    StoreError::corrupt(format!("idempotency key {key}: its row cannot be read")).with_source(error)
}

/// Refuses a result that is too large.
pub(crate) fn check_value(key: &Key, value: &[u8]) -> Answer<()> {
    if value.len() > bounds::LARGEST {
        return bounds::check_size(&format!("result of idempotency key {key}"), value.len());
    }
    Ok(())
}

/// Returns the answer to a claim that did not get the key.
pub(crate) fn judge_claim(claim: &Claim, found: Option<FoundRow>) -> Answer<Claimed<Vec<u8>>> {
    let key = &claim.key;
    let Some(found) = found.transpose()? else {
        // Another caller removed the row between the two reads.
        return Ok(Claimed::InFlight { lease_left: Duration::ZERO });
    };
    let other = match (found.fingerprint, claim.fingerprint) {
        (Some(stored), Some(asked)) => stored != asked.get(),
        _ => false,
    };
    if found.end() <= found.now {
        // A transaction in progress is about to take, complete or sweep the key.
        return Ok(Claimed::InFlight { lease_left: Duration::ZERO });
    }
    match found.status {
        IN_FLIGHT | DONE | NOT_KEPT if other => Ok(Claimed::Mismatch),
        NOT_KEPT => Ok(Claimed::NotKept),
        IN_FLIGHT => Ok(Claimed::InFlight {
            lease_left: time::duration(found.end().saturating_sub(found.now)),
        }),
        DONE => match found.value {
            Some(value) => Ok(Claimed::Done(value)),
            None => Err(missing(key)),
        },
        status => Err(unknown_status(key, status)),
    }
}

/// Returns the answer to a completion that did not find its claim in flight.
pub(crate) fn judge_complete(
    key: &Key,
    claim: ClaimId,
    value: Option<&[u8]>,
    found: Option<FoundRow>,
) -> Answer<()> {
    let completed = [DONE, NOT_KEPT];
    match found.transpose()? {
        Some(found)
            if found.claim == claim.get()
                && completed.contains(&found.status)
                && found.until > found.now =>
        {
            if found.value.as_deref() == value {
                return Ok(());
            }
            let what = format!("idempotency key {key}: completed with another result");
            Err(StoreError::conflict(what))
        }
        Some(found) if found.is_held_by(claim) => Err(busy(key)),
        _ => Err(fenced(key, claim)),
    }
}

/// Removes expired entries, and then results above `most`: up to `limit` entries together.
pub(crate) async fn sweep<F: Future<Output = Answer<usize>>>(
    limit: usize,
    most: Option<u64>,
    expired: impl Future<Output = Answer<usize>>,
    results: impl Future<Output = Answer<i64>>,
    evict: impl FnOnce(usize) -> F,
) -> Answer<usize> {
    let expired = expired.await?;
    let Some(most) = most else { return Ok(expired) };
    let surplus = above(results.await?, most).min(limit - expired.min(limit));
    Ok(expired + evict(surplus).await?)
}

/// Returns how many of `results` exceed `most`.
fn above(results: i64, most: u64) -> usize {
    usize::try_from(results.unsigned_abs().saturating_sub(most)).unwrap_or(usize::MAX)
}

/// Returns the answer to a renewal that did not find its claim in flight, or found its row locked.
pub(crate) fn judge_renew(key: &Key, claim: ClaimId, found: Option<FoundRow>) -> Answer<()> {
    check_unlocked(key, claim, found)?;
    Err(fenced(key, claim))
}

/// Refuses a claim that is in flight: the write that skipped its row found the row locked. A
/// release accepts any other row, because the claim then does not hold the key.
pub(crate) fn check_unlocked(key: &Key, claim: ClaimId, found: Option<FoundRow>) -> Answer<()> {
    match found.transpose()? {
        Some(found) if found.is_held_by(claim) => Err(busy(key)),
        _ => Ok(()),
    }
}

/// Returns the error of a row that a user's transaction has locked to complete the claim.
fn busy(key: &Key) -> StoreError {
    StoreError::transient(format!("idempotency key {key}: a transaction is about to complete it"))
}

/// Returns the result of `claim`, if the row has it.
pub(crate) fn judge_outcome(
    claim: KeyClaim<'_>,
    found: Option<FoundRow>,
) -> Answer<Option<Vec<u8>>> {
    match found.transpose()? {
        Some(found) if found.claim == claim.id.get() && found.until > found.now => {
            match found.status {
                IN_FLIGHT | NOT_KEPT => Ok(None),
                DONE if found.value.is_none() => Err(missing(claim.key)),
                DONE => Ok(found.value),
                status => Err(unknown_status(claim.key, status)),
            }
        }
        _ => Ok(None),
    }
}

fn fenced(key: &Key, claim: ClaimId) -> StoreError {
    StoreError::fenced(format!("idempotency key {key}: not held by claim {claim}"))
}

fn missing(key: &Key) -> StoreError {
    StoreError::corrupt(format!("idempotency key {key}: its result is missing"))
}

fn unknown_status(key: &Key, status: i64) -> StoreError {
    StoreError::corrupt(format!("idempotency key {key}: unknown status {status}"))
}
