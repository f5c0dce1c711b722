//! Requests to the store of the dead letters. The consumer buries messages, and claims letters to replay them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buttress::StoreError;
use tokio::sync::oneshot;

use super::Running;
use super::troubles::{Operation, persist};
use crate::causes::WithCauses;
use crate::consume::consumer::ReplayRequest;
use crate::consume::content::{Content, Key};
use crate::consume::dead_letters::{DeadLetters, LetterClaim, LetterPage};
use crate::consume::letter::{Letter, LetterId, Reason, ReplayId, Select};
use crate::consume::replays::Found;
use crate::consume::source::Source;
use crate::consume::state::{Ask, Burial, EntryId, Work};
use crate::instant;

/// How many letters one request lists or claims at the most.
const PAGE: usize = 100;
/// How long a claim on a letter lasts without a renewal. After that another consumer replays the letters of one that
/// crashed.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// A request that has ended.
pub(super) enum Job {
    /// A letter is written or removed, or it belongs to a later claim.
    Written(EntryId, Written),
    /// Whether dead letters hold a key.
    Asked(Key, Ask, bool),
    /// The letters that an operator wants replayed.
    Listed(Result<Vec<Found>, StoreError>, oneshot::Sender<Result<usize, StoreError>>),
    /// The answer to a claim on letters of a replay.
    Claimed(ReplayId, Arc<Vec<Found>>, Granted),
    /// Claims were released.
    Released,
}

/// The answer to a claim.
pub(super) struct Granted {
    letters: Vec<Letter>,
    /// The letters of an operator's replay that the claim has left in the store.
    left: Vec<LetterId>,
}

/// The result of the write of a letter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Done,
    /// Another consumer has claimed the letter, or an operator has removed it.
    Fenced,
}

impl Written {
    fn of(answer: Result<(), StoreError>) -> Result<Self, StoreError> {
        match answer {
            Ok(()) => Ok(Self::Done),
            Err(error) if error.is_fenced() => Ok(Self::Fenced),
            Err(error) => Err(error),
        }
    }
}

impl<Src: Source, H, C, D: DeadLetters> Running<Src, H, C, D> {
    /// Begins a request of the lanes.
    pub(super) fn write(&mut self, work: Work) {
        let letters = self.consumer.letters.clone();
        let job: super::Boxed<Job> = match work {
            Work::Handle { .. } => return,
            Work::Bury { id, content, burial } => {
                let replay = burial.replay;
                let letter = Arc::new(self.letter(&content, burial));
                let layer = self.consumer.shared.layer.as_str();
                let (key, topic) = (letter.key.as_str(), letter.topic.as_str());
                let (error, reason) = (letter.error.as_str(), letter.reason.as_str());
                // One fault parks many messages: its own letter has the error.
                if letter.reason == Reason::Parked {
                    tracing::warn!(
                        target: "buttress", layer, letter_id = %letter.id, group = letter.group, topic, key,
                        "a message is parked behind a dead letter of its key"
                    );
                } else {
                    tracing::error!(
                        target: "buttress", layer, letter_id = %letter.id, group = letter.group, topic, key,
                        attempts = letter.attempts, error, reason, "a message becomes a dead letter"
                    );
                }
                let bury = persist(&self.troubles, Operation::Bury, move || {
                    let (letters, letter) = (letters.clone(), letter.clone());
                    async move {
                        let bury = Operation::Bury;
                        Written::of(match replay {
                            None => bury.answer(letters.bury_letter(&letter)).await,
                            Some(replay) => {
                                bury.answer(letters.rebury_letter(replay.id, &letter)).await
                            }
                        })
                    }
                });
                Box::pin(async move { Job::Written(id, bury.await) })
            }
            Work::Resolve { id, replay } => {
                let resolve = persist(&self.troubles, Operation::Remove, move || {
                    let letters = letters.clone();
                    let remove = Operation::Remove;
                    async move { Written::of(remove.answer(letters.resolve_letter(replay)).await) }
                });
                Box::pin(async move { Job::Written(id, resolve.await) })
            }
            Work::Ask { key, ask } => {
                let (source, asked) = (self.consumer.source.clone(), key.clone());
                let holds = persist(&self.troubles, Operation::Holds, move || {
                    let (letters, source, key) = (letters.clone(), source.clone(), asked.clone());
                    let holds = Operation::Holds;
                    async move { holds.answer(letters.holds_key(source.group(), &key)).await }
                });
                Box::pin(async move { Job::Asked(key, ask, holds.await) })
            }
        };
        self.push(job);
    }

    fn push(&mut self, job: super::Boxed<Job>) {
        self.fresh = true;
        self.jobs.push(job);
    }

    fn letter(&self, content: &Content, burial: Burial) -> Letter {
        let Burial { reason, error, attempts, replays, replay, due_in, holds_key } = burial;
        let Content { key, topic, payload, headers } = content.clone();
        let config = &self.consumer.config;
        let died_at = config.common.clock.unix();
        let source = &self.consumer.source;
        let drawn = || LetterId::random(&config.common.rng);
        let id = replay.map_or_else(drawn, |replay| replay.letter);
        let letter = Letter::new(id, source.group(), source.name(), key, reason);
        Letter {
            topic,
            payload,
            headers,
            error: crate::text::cut(error),
            attempts,
            replays,
            died_at,
            due_at: due_in.map(|wait| died_at.saturating_add(wait)),
            holds_key,
            ..letter
        }
    }

    /// Looks for the letters that an operator wants replayed.
    pub(super) fn list(&mut self, ReplayRequest { select, answer }: ReplayRequest) {
        let (letters, source) = (self.consumer.letters.clone(), self.consumer.source.clone());
        let (troubles, marker) = (self.troubles.clone(), self.replays.marker());
        self.push(Box::pin(async move {
            let listing = async {
                let mut found: Vec<Found> = Vec::new();
                let mut page = LetterPage::first(source.group(), &select, PAGE);
                loop {
                    let listing =
                        async { Operation::Claim.answer(letters.list_letters(page)).await };
                    let some = troubles.bounded(Operation::Claim, listing).await?;
                    found.extend(some.iter().map(|letter| marker.found(letter)));
                    match some.last() {
                        Some(last) if some.len() == PAGE => page = page.after(last.sequence),
                        _ => return Ok(found),
                    }
                }
            };
            Job::Listed(listing.await, answer)
        }));
    }

    /// Claims letters whose replay is wanted or due, if there is room.
    pub(super) fn claim(&mut self, now: Instant) {
        // The transport was promised the rest of the room with the last `want`, and may use it.
        let room = self.lanes.room().min(PAGE);
        if self.claiming || room == 0 {
            return;
        }
        let (replay, asked, select) = if let Some((replay, asked)) = self.next_page(room) {
            let ids = asked.iter().map(|found| found.id).collect();
            (replay, asked, Select::Ids(ids))
        } else {
            if self.next_due.is_none_or(|due| due > now) {
                return;
            }
            self.next_due = Some(instant::after(now, self.consumer.config.due_poll));
            let replay = ReplayId::random(&self.consumer.config.common.rng);
            (replay, Vec::new(), Select::Due(self.consumer.config.common.clock.unix()))
        };
        (self.claiming, self.promised) = (true, room);
        let (letters, source) = (self.consumer.letters.clone(), self.consumer.source.clone());
        let (select, asked) = (Arc::new(select), Arc::new(asked));
        let page = asked.clone();
        let claim = persist(&self.troubles, Operation::Claim, move || {
            let (letters, source, select) = (letters.clone(), source.clone(), select.clone());
            let asked = asked.clone();
            async move {
                let page = LetterPage::first(source.group(), &select, room);
                let claim = LetterClaim::new(page, replay, LEASE);
                let claimed = Operation::Claim.answer(letters.claim_letters(claim)).await?;
                // Without the letters that were removed since the list of the replay.
                let mut left = missing(&asked, &claimed);
                if !left.is_empty() {
                    let select = Select::Ids(left);
                    let page = LetterPage::first(source.group(), &select, room);
                    let listed = Operation::Claim.answer(letters.list_letters(page)).await?;
                    left = listed.into_iter().map(|letter| letter.id).collect();
                }
                Ok(Granted { letters: claimed, left })
            }
        });
        self.push(Box::pin(async move { Job::Claimed(replay, page, claim.await) }));
    }

    /// Returns the next letters of an operator's replay, if there are any.
    fn next_page(&mut self, room: usize) -> Option<(ReplayId, Vec<Found>)> {
        loop {
            let page = self.replays.next(room)?;
            self.leaves_out(page.replay, page.left_out);
            if !page.letters.is_empty() {
                return Some((page.replay, page.letters));
            }
        }
    }

    /// Takes in the letters that replays leave out because of an earlier letter of their key.
    pub(super) fn leave_out(&mut self) {
        for stop in self.lanes.take_stops() {
            self.replays.stop(stop.replay, &stop.key);
            self.leaves_out(stop.replay, stop.left_out);
        }
    }

    /// Counts the letters that a replay leaves out, and logs one line for each replay.
    fn leaves_out(&mut self, replay: ReplayId, left_out: usize) {
        if left_out == 0 {
            return;
        }
        self.consumer.shared.control().stats.left_out += left_out as u64;
        if self.replays.leaves_out(replay) {
            let layer = self.consumer.shared.layer.as_str();
            let group = self.consumer.source.group();
            tracing::warn!(
                target: "buttress", layer, group, %replay, left_out,
                "a replay leaves out dead letters, which stay in the store: another replay has their key, or an earlier \
                 letter of their key was not handled"
            );
        }
    }

    /// Begins to release the claims on letters that this consumer returns unhandled, so that other replays can claim
    /// them. Waits for a renewal in progress, which would claim them again.
    pub(super) fn release(&mut self) {
        if !self.releasing.is_empty() || self.renewing.is_asking() {
            return;
        }
        let released = self.lanes.take_released();
        if released.is_empty() {
            return;
        }
        self.releasing = Arc::new(released);
        let (letters, released) = (self.consumer.letters.clone(), self.releasing.clone());
        let release = persist(&self.troubles, Operation::Renew, move || {
            let (letters, released) = (letters.clone(), released.clone());
            let renew = Operation::Renew;
            async move { renew.answer(letters.renew_replays(&released, Duration::ZERO)).await }
        });
        self.push(Box::pin(async move {
            release.await;
            Job::Released
        }));
    }

    /// Releases all claims on letters that this consumer returned unhandled.
    pub(super) async fn release_all(&mut self) {
        self.renewing.stop();
        let mut released = self.lanes.take_released();
        released.extend(self.releasing.iter());
        if released.is_empty() {
            return;
        }
        let letters = &self.consumer.letters;
        let releasing = async {
            Operation::Renew.answer(letters.renew_replays(&released, Duration::ZERO)).await
        };
        if let Err(error) = self.troubles.bounded(Operation::Renew, releasing).await {
            let layer = self.consumer.shared.layer.as_str();
            tracing::warn!(
                target: "buttress", layer, error = %WithCauses(&error),
                "the consumer did not release dead letters: another one replays them after the lease"
            );
        }
    }

    /// Takes in a request that has ended.
    pub(super) fn finish(&mut self, job: Job, now: Instant) {
        match job {
            Job::Written(id, written) => {
                if written == Written::Fenced {
                    self.consumer.shared.control().stats.late += 1;
                    self.lanes.fenced(id);
                }
                self.lanes.written(id);
            }
            Job::Asked(key, ask, held) => self.lanes.asked(&key, ask, held),
            Job::Listed(found, answer) => {
                let count = found.map(|found| {
                    let count = found.len();
                    let replay = ReplayId::random(&self.consumer.config.common.rng);
                    self.replays.add(replay, found);
                    count
                });
                // The operator may not wait any more. The letters are replayed nevertheless.
                let _gone = answer.send(count);
            }
            Job::Claimed(replay, asked, Granted { letters, left }) => {
                (self.claiming, self.promised) = (false, 0);
                self.consumer.shared.control().stats.replayed += letters.len() as u64;
                // The lanes may have stopped the replay since the claim began.
                self.leave_out();
                let claimed = self.replays.claimed(replay, &asked, letters, &left);
                self.leaves_out(replay, claimed.left_out);
                self.lanes.release(claimed.release);
                if !claimed.handle.is_empty() {
                    self.renewing.start(now);
                }
                claimed.handle.into_iter().for_each(|letter| self.lanes.replay(replay, letter));
            }
            Job::Released => self.releasing = Arc::default(),
        }
    }
}

/// Returns the letters that were asked for and not claimed.
fn missing(asked: &[Found], claimed: &[Letter]) -> Vec<LetterId> {
    let claimed: HashSet<LetterId> = claimed.iter().map(|letter| letter.id).collect();
    let ids = asked.iter().map(|found| found.id);
    ids.filter(|id| !claimed.contains(id)).collect()
}
