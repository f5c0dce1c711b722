//! Idempotency between the trait and the table: what callers ask of the writer, and what a row says to
//! those who did not get it.

use std::time::Duration;

use buttress::StoreError;
use buttress::idempotency::{ClaimId, Claimed, Fingerprint, Key};

use crate::bounds;
use crate::queue::{Job, Op};
use crate::time;

/// What a claim brings.
pub(crate) struct Claim {
    pub(crate) key: Key,
    pub(crate) claim: ClaimId,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) lease: Duration,
}

/// What a completion brings.
pub(crate) struct Complete {
    pub(crate) key: Key,
    pub(crate) claim: ClaimId,
    /// `None` for a result that is not kept.
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) lifetime: Duration,
}

/// What a renewal brings.
pub(crate) struct Renew {
    pub(crate) key: Key,
    pub(crate) claim: ClaimId,
    pub(crate) lease: Duration,
}

/// What a release brings.
pub(crate) struct Release {
    pub(crate) key: Key,
    pub(crate) claim: ClaimId,
}

pub(crate) type ClaimJob = Job<Claim, Claimed<Vec<u8>>>;
pub(crate) type CompleteJob = Job<Complete, ()>;
pub(crate) type RenewJob = Job<Renew, ()>;
pub(crate) type ReleaseJob = Job<Release, ()>;

/// What goes through the writer.
pub(crate) enum ClaimOp {
    Claim(ClaimJob),
    Complete(CompleteJob),
    Renew(RenewJob),
    Release(ReleaseJob),
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

    fn is_abandoned(&self) -> bool {
        match self {
            Self::Claim(job) => job.is_abandoned(),
            Self::Complete(job) => job.is_abandoned(),
            Self::Renew(job) => job.is_abandoned(),
            Self::Release(job) => job.is_abandoned(),
        }
    }

    fn reset(&mut self) {
        match self {
            Self::Claim(job) => job.reset(),
            Self::Complete(job) => job.reset(),
            Self::Renew(job) => job.reset(),
            Self::Release(job) => job.reset(),
        }
    }

    fn answer(self, committed: Result<(), &StoreError>) {
        match self {
            Self::Claim(job) => job.answer(committed),
            Self::Complete(job) => job.answer(committed),
            Self::Renew(job) => job.answer(committed),
            Self::Release(job) => job.answer(committed),
        }
    }
}

/// In flight.
pub(crate) const IN_FLIGHT: i64 = 1;
/// There is a result.
pub(crate) const DONE: i64 = 2;
/// The work is done, and its result is not kept.
pub(crate) const NOT_KEPT: i64 = 3;

/// The row of a key.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) claim: u128,
    pub(crate) fingerprint: Option<u128>,
    pub(crate) status: i64,
    pub(crate) until: i64,
    /// How long the lease, or the result, was granted for.
    pub(crate) length: i64,
    pub(crate) value: Option<Vec<u8>>,
    /// When it was read.
    pub(crate) now: i64,
}

impl Found {
    /// When the lease, or the result, ends: never later than its length from now.
    fn end(&self) -> i64 {
        time::bounded(self.until, self.length, self.now)
    }

    /// Whether the row says that it ends later than that: it is to be shortened.
    pub(crate) fn is_late(&self) -> bool {
        self.end() < self.until
    }

    /// Whether `claim` is in flight, and was when a write passed it by.
    fn is_held_by(&self, claim: ClaimId) -> bool {
        self.claim == claim.get() && self.status == IN_FLIGHT
    }
}

/// What was found of a key; an error if its row is damaged.
pub(crate) type Look = Result<Found, StoreError>;

/// The error of a key whose row cannot be read.
pub(crate) fn unreadable(key: &str, error: sqlx::Error) -> StoreError {
    StoreError::corrupt(format!("idempotency key {key}: its row cannot be read")).with_source(error)
}

/// Refuses a result that does not fit.
pub(crate) fn check_value(key: &Key, value: &[u8]) -> Result<(), StoreError> {
    if value.len() > bounds::LARGEST {
        return bounds::check_size(&format!("result of idempotency key {key}"), value.len());
    }
    Ok(())
}

/// What a claim comes to that did not get the key.
pub(crate) fn judge_claim(
    claim: &Claim,
    found: Option<Look>,
) -> Result<Claimed<Vec<u8>>, StoreError> {
    let key = &claim.key;
    let Some(found) = found.transpose()? else {
        // Somebody freed it between the two looks.
        return Ok(Claimed::InFlight { lease_left: Duration::ZERO });
    };
    let other = match (found.fingerprint, claim.fingerprint) {
        (Some(stored), Some(asked)) => stored != asked.get(),
        _ => false,
    };
    if found.end() <= found.now {
        // A transaction under way is about to take it, complete it or sweep it.
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

/// What a completion comes to that did not find its claim in flight.
pub(crate) fn judge_complete(
    key: &Key,
    claim: ClaimId,
    value: Option<&[u8]>,
    found: Option<Look>,
) -> Result<(), StoreError> {
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

/// How many of `results` are above `most`.
pub(crate) fn above(results: i64, most: u64) -> usize {
    usize::try_from(results.unsigned_abs().saturating_sub(most)).unwrap_or(usize::MAX)
}

/// What a renewal comes to that did not find its claim in flight, or not free to be written.
pub(crate) fn judge_renew(
    key: &Key,
    claim: ClaimId,
    found: Option<Look>,
) -> Result<(), StoreError> {
    match found.transpose()? {
        Some(found) if found.is_held_by(claim) => Err(busy(key)),
        _ => Err(fenced(key, claim)),
    }
}

/// What a release comes to that did not find its claim in flight, or not free to be written.
#[cfg(feature = "postgres")]
pub(crate) fn judge_release(
    key: &Key,
    claim: ClaimId,
    found: Option<Look>,
) -> Result<(), StoreError> {
    match found.transpose()? {
        Some(found) if found.is_held_by(claim) => Err(busy(key)),
        _ => Ok(()),
    }
}

/// A transaction of the user's, which is completing the claim, has the row.
fn busy(key: &Key) -> StoreError {
    StoreError::transient(format!("idempotency key {key}: a transaction is about to complete it"))
}

/// The result of `claim`, if the row has it.
pub(crate) fn judge_outcome(
    key: &Key,
    claim: ClaimId,
    found: Option<Look>,
) -> Result<Option<Vec<u8>>, StoreError> {
    match found.transpose()? {
        Some(found) if found.claim == claim.get() && found.until > found.now => {
            match found.status {
                IN_FLIGHT | NOT_KEPT => Ok(None),
                DONE if found.value.is_none() => Err(missing(key)),
                DONE => Ok(found.value),
                status => Err(unknown_status(key, status)),
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
