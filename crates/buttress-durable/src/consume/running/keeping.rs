//! [`Keeping`]: keeps held messages alive at the transport, and claims at the store of the dead letters.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::dead_letters::LEASE;
use super::troubles::{Operation, persist};
use super::{Boxed, Running};
use crate::consume::dead_letters::DeadLetters;
use crate::consume::source::{Answer, Source};
use crate::consume::state::Hold;
use crate::instant;

/// The shortest time between two calls. A transport that asks for less would get nothing else.
const SHORTEST: Duration = Duration::from_millis(1);

/// One call at a time, as long as something is held.
pub(super) struct Keeping {
    every: Duration,
    /// When the next call begins. `None` if nothing is held.
    next: Option<Instant>,
    asking: Option<(Vec<Hold>, Boxed<Vec<bool>>)>,
}

impl Keeping {
    pub(super) fn new(every: Duration) -> Self {
        Self { every: every.max(SHORTEST), next: None, asking: None }
    }

    /// Records that the consumer holds something.
    pub(super) fn start(&mut self, now: Instant) {
        let every = self.every;
        self.next.get_or_insert_with(|| instant::after(now, every));
    }

    /// Returns when the next call begins. `None` while a call is in progress.
    pub(super) fn at(&self) -> Option<Instant> {
        self.next.filter(|_| self.asking.is_none())
    }

    /// Begins the next call if its time has come. `held` returns the held values, and `ask` makes the call, whose
    /// answer says of each whether it is still held. Returns whether a call has begun.
    pub(super) fn begin<T>(
        &mut self,
        now: Instant,
        held: impl FnOnce() -> Vec<(Hold, T)>,
        ask: impl FnOnce(Vec<T>) -> Boxed<Vec<bool>>,
    ) -> bool {
        if self.at().is_none_or(|at| at > now) {
            return false;
        }
        let (ids, held): (Vec<_>, Vec<_>) = held().into_iter().unzip();
        let is_needed = !ids.is_empty();
        self.next = is_needed.then(|| instant::after(now, self.every));
        self.asking = is_needed.then(|| (ids, ask(held)));
        is_needed
    }

    /// Takes in the answer, if it is there. Returns the values that are not held any more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Vec<Hold>> {
        let (ids, asking) = self.asking.as_mut()?;
        let Poll::Ready(held) = asking.as_mut().poll(cx) else { return None };
        let lost = ids.iter().zip(held).filter(|(_, held)| !held).map(|(id, _)| *id).collect();
        self.asking = None;
        Some(lost)
    }

    /// Returns `true` while a call is in progress.
    pub(super) const fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// Drops the call in progress, and begins no further call.
    pub(super) fn stop(&mut self) {
        (self.next, self.asking) = (None, None);
    }
}

impl<Src: Source, H, C, D: DeadLetters> Running<Src, H, C, D> {
    /// Reports held messages to the transport, and renews the claims on letters.
    pub(super) fn keep(&mut self, now: Instant) {
        let (lanes, troubles) = (&self.lanes, &self.troubles);
        if let Some(keeping) = &mut self.keeping {
            let source = &self.consumer.source;
            self.fresh |= keeping.begin(
                now,
                || lanes.held_tokens(),
                |tokens| {
                    let (source, tokens) = (source.clone(), Arc::new(tokens));
                    persist(troubles, Operation::Keep, move || {
                        let (source, tokens) = (source.clone(), tokens.clone());
                        async move {
                            let answers = Operation::Keep.answer(source.keep(&tokens)).await?;
                            Ok(answers.into_iter().map(|answer| answer == Answer::Taken).collect())
                        }
                    })
                },
            );
        }
        let letters = &self.consumer.letters;
        self.fresh |= self.renewing.begin(
            now,
            || lanes.held_replays(),
            |replays| {
                let (letters, replays) = (letters.clone(), Arc::new(replays));
                persist(troubles, Operation::Renew, move || {
                    let (letters, replays) = (letters.clone(), replays.clone());
                    let renew = Operation::Renew;
                    async move { renew.answer(letters.renew_replays(&replays, LEASE)).await }
                })
            },
        );
    }
}
