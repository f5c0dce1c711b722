//! The table of a group in a separate stream: the last message of a subject, changed by compare-and-swap.

use std::time::Instant;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{Context, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use buttress::{Clock, StoreError};

use super::state::Membership;
use super::table::Table;
use crate::nats::missing;

/// The attempts of a write while other members are faster.
const CONFLICTS: usize = 8;

/// The leases of one member.
#[derive(Debug)]
pub(crate) struct Leases {
    pub membership: Membership,
    jetstream: Context,
    tables: Stream<()>,
    subject: String,
    shards: u16,
    clock: Clock,
    next: Option<Instant>,
}

impl Leases {
    pub(crate) fn new(
        membership: Membership,
        tables: (Context, Stream<()>),
        subject: String,
        shards: u16,
        clock: Clock,
    ) -> Self {
        let (jetstream, tables) = tables;
        Self { membership, jetstream, tables, subject, shards, clock, next: None }
    }

    /// Returns `true` if the table should be read at `now`.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|at| at <= now)
    }

    /// Makes the next step due.
    pub(crate) fn hurry(&mut self) {
        self.next = None;
    }

    /// Reads the table, and writes it if this member has something to change.
    pub(crate) async fn step(&mut self, is_busy: impl Fn(u16) -> bool) -> Result<(), StoreError> {
        for _ in 0..CONFLICTS {
            // Before the read, so that no answer can lengthen the lease.
            let asked_at = self.clock.now();
            let (table, revision) = self.read().await?;
            let now = self.clock.now();
            self.membership.read(now, &table);
            let Some(next) = self.membership.plan(now, &table, &is_busy) else { break };
            if self.write(&next, revision).await? {
                self.membership.wrote(asked_at, &next);
                break;
            }
        }
        self.next = Some(self.clock.now() + self.membership.poll());
        Ok(())
    }

    /// Removes this member from the table.
    pub(crate) async fn leave(&mut self) -> Result<(), StoreError> {
        self.membership.lapse();
        for _ in 0..CONFLICTS {
            let (mut table, revision) = self.read().await?;
            table.leave(self.membership.me());
            if self.write(&table, revision).await? {
                return Ok(());
            }
        }
        let subject = &self.subject;
        Err(StoreError::transient(format!(
            "`{subject}`: other members were faster {CONFLICTS} times"
        )))
    }

    /// Returns the table and its place in the stream, which is 0 if there is no table yet.
    async fn read(&self) -> Result<(Table, u64), StoreError> {
        let subject = &self.subject;
        let read = match self.tables.get_last_raw_message_by_subject(subject).await {
            Ok(read) => read,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                return Ok((Table::new(self.shards), 0));
            }
            Err(error) => {
                if let LastRawMessageErrorKind::JetStream(inner) = error.kind()
                    && inner.error_code() == ErrorCode::STREAM_NOT_FOUND
                {
                    let stream = subject.split_once('.').map_or(&**subject, |(stream, _)| stream);
                    return Err(missing(stream));
                }
                let failed = StoreError::transient(format!("`{subject}`: cannot read the members"));
                return Err(failed.with_source(error));
            }
        };
        let table: Table = serde_json::from_slice(&read.payload).map_err(|error| {
            StoreError::corrupt(format!("`{subject}`: not a table of members")).with_source(error)
        })?;
        if table.shards.len() != usize::from(self.shards) {
            let (found, wanted) = (table.shards.len(), self.shards);
            let why = format!("`{subject}`: shards: {found} are stored, {wanted} are configured");
            return Err(StoreError::misconfigured(why));
        }
        Ok((table, read.sequence))
    }

    /// Returns `false` if another member was faster.
    async fn write(&self, table: &Table, revision: u64) -> Result<bool, StoreError> {
        let subject = &self.subject;
        let value = serde_json::to_vec(table).map_err(|error| {
            StoreError::invalid(format!("`{subject}`: cannot encode")).with_source(error)
        })?;
        let message = PublishMessage::build().payload(value.into());
        let message = message.expected_last_subject_sequence(revision);
        let writing = async { self.jetstream.send_publish(subject.clone(), message).await?.await };
        match writing.await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(false),
            Err(error) => {
                let failed =
                    StoreError::transient(format!("`{subject}`: cannot write the members"));
                Err(failed.with_source(error))
            }
        }
    }
}
