//! Idempotency between the trait and the tables: the operations of the writer, and the answers for
//! a key that a claim did not get.

use std::time::Duration;

use buttress::StoreError;
use buttress::idempotency::{ClaimId, Claimed, Fingerprint, Key};

use crate::bounds;
use crate::columns::Columns;
use crate::queue::{Job, Op, pass_on};
use crate::time;

/// The input of a claim.
pub(crate) struct Claim {
    pub(crate) key: Key,
    pub(crate) claim: ClaimId,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) lease: Duration,
}

/// The input of a completion.
pub(crate) struct Complete {
    pub(crate) key: Key,
    pub(crate) claim: ClaimId,
    /// `None` for a result that is not kept.
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) lifetime: Duration,
}

/// The input of a renewal.
pub(crate) struct Renew {
    pub(crate) key: Key,
    pub(crate) claim: ClaimId,
    pub(crate) lease: Duration,
}

/// The input of a release.
pub(crate) struct Release {
    pub(crate) key: Key,
    pub(crate) claim: ClaimId,
}

pub(crate) type ClaimJob = Job<Claim, Claimed<Vec<u8>>>;
pub(crate) type CompleteJob = Job<Complete, ()>;
pub(crate) type RenewJob = Job<Renew, ()>;
pub(crate) type ReleaseJob = Job<Release, ()>;

/// An operation of the writer.
pub(crate) enum ClaimOp {
    Claim(ClaimJob),
    Complete(CompleteJob),
    Renew(RenewJob),
    Release(ReleaseJob),
}

/// The operations of one wave, by kind. They are written in this order.
#[derive(Default)]
pub(crate) struct Wave<'a> {
    pub(crate) claims: Vec<&'a mut ClaimJob>,
    pub(crate) completes: Vec<&'a mut CompleteJob>,
    pub(crate) renews: Vec<&'a mut RenewJob>,
    pub(crate) releases: Vec<&'a mut ReleaseJob>,
}

impl<'a> Wave<'a> {
    pub(crate) fn new(ops: Vec<&'a mut ClaimOp>) -> Self {
        let mut wave = Self::default();
        for op in ops {
            match op {
                ClaimOp::Claim(job) => wave.claims.push(job),
                ClaimOp::Complete(job) => wave.completes.push(job),
                ClaimOp::Renew(job) => wave.renews.push(job),
                ClaimOp::Release(job) => wave.releases.push(job),
            }
        }
        wave
    }
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
    /// The length that the lease, or the result, was granted for.
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
pub(crate) fn found<R: Columns>(row: &R, now: i64) -> Result<Found, sqlx::Error> {
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
pub(crate) type FoundRow = Result<Found, StoreError>;

/// Returns the error of a key whose row cannot be read.
pub(crate) fn unreadable(key: &str, error: sqlx::Error) -> StoreError {
    StoreError::corrupt(format!("idempotency key {key}: its row cannot be read")).with_source(error)
}

/// Refuses a result that is too large.
pub(crate) fn check_value(key: &Key, value: &[u8]) -> Result<(), StoreError> {
    if value.len() > bounds::LARGEST {
        return bounds::check_size(&format!("result of idempotency key {key}"), value.len());
    }
    Ok(())
}

/// Returns the answer to a claim that did not get the key.
pub(crate) fn judge_claim(
    claim: &Claim,
    found: Option<FoundRow>,
) -> Result<Claimed<Vec<u8>>, StoreError> {
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

/// Returns how many of `results` exceed `most`.
pub(crate) fn above(results: i64, most: u64) -> usize {
    usize::try_from(results.unsigned_abs().saturating_sub(most)).unwrap_or(usize::MAX)
}

/// Returns the answer to a renewal that did not find its claim in flight, or found its row locked.
pub(crate) fn judge_renew(
    key: &Key,
    claim: ClaimId,
    found: Option<FoundRow>,
) -> Result<(), StoreError> {
    check_unlocked(key, claim, found)?;
    Err(fenced(key, claim))
}

/// Refuses a claim that is in flight: the write that skipped its row found the row locked. A
/// release accepts any other row, because the claim then does not hold the key.
pub(crate) fn check_unlocked(
    key: &Key,
    claim: ClaimId,
    found: Option<FoundRow>,
) -> Result<(), StoreError> {
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
    key: &Key,
    claim: ClaimId,
    found: Option<FoundRow>,
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
