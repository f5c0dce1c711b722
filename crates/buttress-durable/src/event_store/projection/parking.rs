//! Dead letters of a projection, without the type of their store.

use std::sync::Arc;

use buttress::idempotency::Fingerprint;

use crate::answer::{Answer, Fut};
use crate::consume::{DeadLetters, Letter, LetterId, LetterPage, Reason, Select};
use crate::event_store::recorded::{Ordered, Recorded};
use crate::event_store::stream::Position;

/// The operations of [`DeadLetters`] that a projection needs.
pub(super) trait Parking: Send + Sync {
    fn bury<'a>(&'a self, letter: &'a Letter) -> Fut<'a, ()>;

    /// Returns `true` if any letter of the group holds its key.
    fn holds_any<'a>(&'a self, group: &'a str) -> Fut<'a, bool>;

    fn holds<'a>(&'a self, group: &'a str, key: &'a str) -> Fut<'a, bool>;

    /// Returns up to `limit` letters of the group after a sequence.
    fn list<'a>(&'a self, group: &'a str, after: u64, limit: usize) -> Fut<'a, Vec<Letter>>;

    fn remove(&self, letter: LetterId) -> Fut<'_, ()>;
}

impl<D: DeadLetters> Parking for D {
    fn bury<'a>(&'a self, letter: &'a Letter) -> Fut<'a, ()> {
        Box::pin(self.bury_letter(letter))
    }

    fn holds_any<'a>(&'a self, group: &'a str) -> Fut<'a, bool> {
        Box::pin(async move { Ok(self.letter_backlog(group).await?.held_keys > 0) })
    }

    fn holds<'a>(&'a self, group: &'a str, key: &'a str) -> Fut<'a, bool> {
        Box::pin(self.holds_key(group, key))
    }

    fn list<'a>(&'a self, group: &'a str, after: u64, limit: usize) -> Fut<'a, Vec<Letter>> {
        Box::pin(async move {
            let page = LetterPage::first(group, &Select::All, limit).after(after);
            self.list_letters(page).await
        })
    }

    fn remove(&self, letter: LetterId) -> Fut<'_, ()> {
        Box::pin(async move { self.remove_letters(&[letter]).await.map(drop) })
    }
}

/// The header of a letter with the position of its event.
const POSITION: &str = "event-position";

/// Returns the position of the event of a letter; `None` if a projection did not write the letter.
pub(super) fn position(letter: &Letter) -> Option<Position> {
    // The last one: the event may have a header of this name.
    let found = letter.headers.iter().rev().find(|(name, _)| name == POSITION);
    found.and_then(|(_, position)| position.parse().ok()).map(Position::new)
}

/// Where a projection parks events.
#[derive(Clone)]
pub(super) struct Letters(pub(super) Arc<dyn Parking>);

impl Letters {
    /// Writes an event as a dead letter that holds its stream. A repeated call writes it once.
    pub(super) async fn park(
        &self,
        projection: &str,
        ordered: &Ordered,
        reason: Reason,
        error: &str,
        now: std::time::Duration,
    ) -> Answer<()> {
        let Ordered { position, event } = ordered;
        let id = letter_id(projection, ordered);
        let key = key(event);
        let mut letter = Letter::new(id, projection, "event-store", key, reason);
        letter.topic.clone_from(&event.kind);
        letter.payload.clone_from(&event.data);
        letter.headers.clone_from(&event.headers);
        for (name, value) in [
            (POSITION, position.to_string()),
            ("event-version", event.version.to_string()),
            ("event-schema", event.schema.to_string()),
            ("event-id", event.id.to_string()),
        ] {
            letter.headers.push((name.to_owned(), value));
        }
        error.clone_into(&mut letter.error);
        letter.died_at = now;
        letter.holds_key = true;
        self.0.bury(&letter).await
    }

    /// Returns up to `limit` letters after a sequence, in the order in which they were parked.
    pub(super) async fn page(
        &self,
        projection: &str,
        after: u64,
        limit: usize,
    ) -> Answer<Vec<Letter>> {
        self.0.list(projection, after, limit).await
    }

    pub(super) async fn remove(&self, letter: LetterId) -> Answer<()> {
        self.0.remove(letter).await
    }

    /// Returns for each event whether a dead letter holds its stream.
    pub(super) async fn held(&self, projection: &str, events: &[Ordered]) -> Answer<Vec<bool>> {
        if !self.0.holds_any(projection).await? {
            return Ok(vec![false; events.len()]);
        }
        let mut known = std::collections::HashMap::new();
        let mut held = Vec::with_capacity(events.len());
        for ordered in events {
            let stream = &ordered.event.stream;
            let is_held = match known.get(stream) {
                Some(is_held) => *is_held,
                None => {
                    let is_held = self.0.holds(projection, &key(&ordered.event)).await?;
                    known.insert(stream.clone(), is_held);
                    is_held
                }
            };
            held.push(is_held);
        }
        Ok(held)
    }
}

/// Returns the key of a stream: its name, or a digest of it if the kind has a `/`. So no two streams have one key.
fn key(event: &Recorded) -> String {
    let (stream, kind) = (&event.stream, event.stream.kind());
    if !kind.contains('/') {
        return stream.to_string();
    }
    let what = format!("{}:{stream}", kind.len());
    format!("{:032x}", Fingerprint::of(what.as_bytes()).get())
}

/// Returns the id of the letter of an event. It is the same at every attempt, and differs between projections and between
/// events, also if writers use an id twice.
fn letter_id(projection: &str, ordered: &Ordered) -> LetterId {
    let what = format!("{projection}\0{}", ordered.position);
    LetterId::new(Fingerprint::of(what.as_bytes()).get())
}
