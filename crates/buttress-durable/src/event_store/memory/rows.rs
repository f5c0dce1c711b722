//! The rows of a store in memory.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use buttress::StoreError;

use super::super::batch::{AppendError, NewBatch};
use super::super::checkpoint::{
    Advance, LONGEST_PROJECTION, Leased, ProjectionClaim, ProjectionLease, ProjectionState,
    ProjectorId, Start, Swap,
};
use super::super::recorded::{
    Filter, Ordered, Page, REPEATS, Recorded, Snapshot, StreamPage, StreamState, find_repeated,
};
use super::super::stream::{Position, StreamId, Version};
use crate::answer::Answer;
use crate::{epoch, instant};

#[derive(Default)]
pub(super) struct Rows {
    /// Every event, in its order: the event at position n is the n-th.
    log: Vec<Recorded>,
    streams: HashMap<StreamId, Stream>,
    pub snapshots: HashMap<StreamId, Snapshot>,
    projections: BTreeMap<String, Projection>,
    transactions: u64,
}

#[derive(Default)]
struct Stream {
    /// The places of its events in the log.
    places: Vec<usize>,
    is_closed: bool,
    /// The open transaction that has appended to it.
    holder: Option<u64>,
}

#[derive(Default)]
struct Projection {
    /// The worker, and the end of its lease.
    owner: Option<(ProjectorId, Instant)>,
    epoch: u64,
    checkpoint: Position,
    seen: Position,
    replayed: Position,
    rebuilt: Position,
    /// The open transaction that moves its checkpoint.
    holder: Option<u64>,
}

/// The result of the check of an append.
pub(super) enum Place {
    /// The batch was appended before, after this version.
    Repeated(Version),
    /// The events follow this version.
    After(Version),
}

fn held(what: impl std::fmt::Display) -> StoreError {
    StoreError::transient(format!("{what}: another open transaction holds it"))
}

impl Rows {
    pub(super) fn begin(&mut self) -> u64 {
        self.transactions += 1;
        self.transactions
    }

    pub(super) fn last(&self) -> Position {
        Position::new(self.log.len() as u64)
    }

    pub(super) fn state(&self, stream: &StreamId) -> StreamState {
        let found = self.streams.get(stream);
        let version = found.map_or(0, |stream| stream.places.len() as u64);
        StreamState::new(Version::new(version), found.is_some_and(|stream| stream.is_closed))
    }

    /// Returns the events of a stream after a version, with the `staged` events of a transaction behind them.
    fn events<'a>(
        &'a self,
        stream: &StreamId,
        staged: &'a [Recorded],
        after: Version,
    ) -> impl Iterator<Item = &'a Recorded> {
        let places = self.streams.get(stream).map_or(&[][..], |stream| &stream.places);
        let committed = places.iter().filter_map(|place| self.log.get(*place));
        let skipped = usize::try_from(after.get()).unwrap_or(usize::MAX);
        committed.chain(staged).skip(skipped)
    }

    /// Reads a stream with the `staged` events of a transaction behind it.
    pub(super) fn read(
        &self,
        stream: &StreamId,
        staged: &[Recorded],
        after: Version,
        limit: usize,
    ) -> StreamPage {
        let (mut page, mut bytes) = (StreamPage::new(Vec::new(), true), 0);
        for event in self.events(stream, staged, after) {
            if page.events.len() == limit || bytes >= Page::LARGEST {
                page.is_end = false;
                break;
            }
            bytes += event.bytes();
            page.events.push(event.clone());
        }
        page
    }

    pub(super) fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Page {
        let skipped = usize::try_from(after.get()).unwrap_or(usize::MAX);
        let mut page = Page::new(Vec::new(), after.max(self.last()), true);
        let mut bytes = 0;
        for (skipped, event) in self.log.iter().enumerate().skip(skipped) {
            let position = Position::new(skipped as u64 + 1);
            if page.events.len() == limit || bytes >= Page::LARGEST {
                page.through = Position::new(position.get() - 1);
                page.is_end = false;
                break;
            }
            if filter.matches(event) {
                bytes += event.bytes();
                page.events.push(Ordered::new(position, event.clone()));
            }
        }
        page
    }

    /// Decides about an append of transaction `tx`, which has `staged` events of the stream.
    pub(super) fn place(
        &self,
        tx: u64,
        staged: &[Recorded],
        batch: &NewBatch,
    ) -> Result<Place, AppendError> {
        let NewBatch { stream, expected, events } = batch;
        if self.streams.get(stream).and_then(|stream| stream.holder).is_some_and(|by| by != tx) {
            return Err(held(format!("stream {stream}")).into());
        }
        let state = self.state(stream);
        let actual = state.version.plus(staged.len() as u64);
        let window = (REPEATS + events.len()) as u64;
        let (after, limit) = match expected.version() {
            Some(version) => (version, events.len()),
            None => (Version::new(actual.get().saturating_sub(window)), usize::MAX),
        };
        let recorded = self.events(stream, staged, after).take(limit).cloned();
        let recorded: Vec<Recorded> = recorded.collect();
        if let Some(before) = find_repeated(*expected, events, &recorded) {
            return Ok(Place::Repeated(before));
        }
        let stream = stream.clone();
        if state.is_closed {
            return Err(AppendError::Closed { stream });
        }
        if !expected.admits(actual) {
            return Err(AppendError::Conflict { stream, expected: *expected, actual });
        }
        Ok(Place::After(actual))
    }

    /// Reserves a stream for a transaction.
    pub(super) fn hold(&mut self, stream: &StreamId, tx: u64) {
        self.streams.entry(stream.clone()).or_default().holder = Some(tx);
    }

    /// Appends an event to its stream and to the log.
    pub(super) fn append(&mut self, event: Recorded) {
        let row = self.streams.entry(event.stream.clone()).or_default();
        row.places.push(self.log.len());
        self.log.push(event);
    }

    pub(super) fn archive(&mut self, stream: &StreamId) -> Answer<Option<Version>> {
        let version = self.state(stream).version;
        match self.streams.get_mut(stream) {
            Some(row) if row.holder.is_some() => Err(held(format!("stream {stream}"))),
            Some(row) if version > Version::START => {
                row.is_closed = true;
                Ok(Some(version))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn save(&mut self, snapshot: &Snapshot) {
        let stored = self.snapshots.get(&snapshot.stream);
        if !stored.is_some_and(|stored| stored.outlasts(snapshot)) {
            self.snapshots.insert(snapshot.stream.clone(), snapshot.clone());
        }
    }

    pub(super) fn lease(
        &mut self,
        claim: ProjectionClaim<'_>,
        now: Instant,
    ) -> Answer<Option<Leased>> {
        check_name(claim.name)?;
        if !self.projections.contains_key(claim.name) {
            let Some(start) = claim.start else { return Ok(None) };
            let checkpoint = if start == Start::Last { self.last() } else { Position::START };
            let row = Projection { checkpoint, seen: checkpoint, ..Projection::default() };
            self.projections.insert(claim.name.to_owned(), row);
        }
        let Some(row) = self.projections.get_mut(claim.name) else { return Ok(None) };
        if row.holder.is_some() {
            return Err(held(format!("projection {}", claim.name)));
        }
        let until = instant::after(now, claim.lease);
        match row.owner {
            Some((owner, _)) if owner == claim.worker => {}
            Some((_, until)) if now < until => return Ok(None),
            _ => {
                let name = claim.name;
                let corrupt = || {
                    StoreError::corrupt(format!("projection {name}: no epoch follows the last one"))
                };
                row.epoch = epoch::next(row.epoch).ok_or_else(corrupt)?;
            }
        }
        row.owner = Some((claim.worker, until));
        let lease = ProjectionLease::new(claim.name, claim.worker, row.epoch);
        let leased = Leased::new(lease, row.checkpoint, row.seen);
        Ok(Some(leased.replayed(row.replayed).rebuilt(row.rebuilt)))
    }

    pub(super) fn release(&mut self, lease: &ProjectionLease) -> Answer<()> {
        match self.projections.get_mut(&*lease.name) {
            Some(row) if row.holder.is_some() => Err(held(format!("projection {}", lease.name))),
            Some(row) if row.is_owned(lease) => {
                row.owner = None;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Checks that transaction `tx` may move the checkpoint of `lease` from `at`, and reserves the projection.
    pub(super) fn check(&mut self, lease: &ProjectionLease, at: Position, tx: u64) -> Answer<()> {
        let name = &lease.name;
        let row = self.projections.get_mut(&**name).filter(|row| row.is_owned(lease));
        let row = row.ok_or_else(|| {
            StoreError::fenced(format!("projection {name}: epoch {} is over", lease.epoch))
        })?;
        if row.holder.is_some_and(|by| by != tx) {
            return Err(held(format!("projection {name}")));
        }
        if row.checkpoint != at {
            let checkpoint = row.checkpoint;
            return Err(StoreError::conflict(format!(
                "projection {name}: the checkpoint is {checkpoint}, the caller expected {at}"
            )));
        }
        row.holder = Some(tx);
        Ok(())
    }

    /// Checks that transaction `tx` may replace a projection, and reserves both.
    pub(super) fn check_swap(&mut self, swap: &Swap, tx: u64) -> Answer<()> {
        check_name(&swap.name)?;
        if swap.name == swap.built.name {
            let name = &swap.name;
            return Err(StoreError::invalid(format!(
                "projection {name}: a projection cannot replace itself"
            )));
        }
        let replaced = self.projections.get(&*swap.name).and_then(|row| row.holder);
        if replaced.is_some_and(|by| by != tx) {
            return Err(held(format!("projection {}", swap.name)));
        }
        self.check(&swap.built, swap.at, tx)?;
        if let Some(row) = self.projections.get_mut(&*swap.name) {
            row.holder = Some(tx);
        }
        Ok(())
    }

    /// Moves a checkpoint that [`check`](Self::check) has approved.
    pub(super) fn advance(&mut self, advance: &Advance) {
        if let Some(row) = self.projections.get_mut(&*advance.lease.name) {
            row.checkpoint = advance.to;
            row.seen = row.seen.max(advance.to);
            row.replayed = advance.replayed.unwrap_or(row.replayed);
        }
    }

    /// Replaces a projection, after [`check_swap`](Self::check_swap) has approved.
    pub(super) fn swap(&mut self, swap: &Swap) {
        self.projections.remove(&*swap.built.name);
        let is_known = self.projections.contains_key(&*swap.name);
        let row = self.projections.entry(swap.name.as_ref().to_owned()).or_default();
        if swap.is_live_only && is_known {
            row.checkpoint = swap.at.min(row.seen);
        } else {
            row.checkpoint = swap.at;
            row.seen = row.seen.max(swap.at);
        }
        row.rebuilt = swap.at;
        row.owner = None;
    }

    /// Ends every reservation of a transaction that has appended to `streams`.
    pub(super) fn end<'a>(&mut self, tx: u64, streams: impl Iterator<Item = &'a StreamId>) {
        for stream in streams {
            if let Some(row) = self.streams.get_mut(stream) {
                row.holder.take_if(|by| *by == tx);
            }
        }
        for row in self.projections.values_mut() {
            row.holder.take_if(|by| *by == tx);
        }
    }

    pub(super) fn remove(&mut self, name: &str) -> Answer<bool> {
        if self.projections.get(name).is_some_and(|row| row.holder.is_some()) {
            return Err(held(format!("projection {name}")));
        }
        Ok(self.projections.remove(name).is_some())
    }

    pub(super) fn states(&self, now: Instant, unix: Duration) -> Vec<ProjectionState> {
        let states = self.projections.iter().map(|(name, row)| {
            let next = usize::try_from(row.checkpoint.get()).ok().and_then(|at| self.log.get(at));
            ProjectionState {
                is_leased: row.owner.is_some_and(|(_, until)| now < until),
                lag: self.last().get().saturating_sub(row.checkpoint.get()),
                age: next.map_or(Duration::ZERO, |next| unix.saturating_sub(next.recorded_at)),
                ..ProjectionState::new(name, row.checkpoint, row.seen)
            }
        });
        states.collect()
    }
}

impl Projection {
    fn is_owned(&self, lease: &ProjectionLease) -> bool {
        self.epoch == lease.epoch && self.owner.is_some_and(|(owner, _)| owner == lease.worker)
    }
}

fn check_name(name: &str) -> Answer<()> {
    let length = name.len();
    if length == 0 || length > LONGEST_PROJECTION {
        return Err(StoreError::invalid(format!(
            "projection: a name of {length} bytes, between 1 and {LONGEST_PROJECTION} are allowed"
        )));
    }
    if name.contains('\0') {
        return Err(StoreError::invalid("projection: a name with U+0000 in it"));
    }
    Ok(())
}
