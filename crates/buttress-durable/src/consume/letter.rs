//! [`Letter`]: a message that a consumer has stopped handling.

use std::time::Duration;

use buttress::__ids as ids;

ids! {
    /// The id of a dead letter. The consumer generates it, so that a repeated write is one letter.
    LetterId;

    /// The id of one replay of dead letters, which claims them. The consumer generates one per replay. It is the fence:
    /// only the last replay that has claimed a letter can write or remove the letter.
    ReplayId;
}

/// A dead letter that a consumer has claimed for a replay.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Replay {
    /// The claim.
    pub id: ReplayId,
    /// The letter.
    pub letter: LetterId,
}

impl Replay {
    /// Creates the claim `id` on `letter`.
    #[must_use]
    pub const fn new(id: ReplayId, letter: LetterId) -> Self {
        Self { id, letter }
    }
}

/// The reason why a message became a dead letter.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// The handler failed in every attempt that the configuration allows.
    Exhausted,
    /// The bytes or the headers are not an event.
    Undecodable,
    /// The kind or the version of the event is unknown, and the configuration asks for a dead letter.
    Unknown,
    /// The handler returned [`Rejected`](super::Rejected).
    Rejected,
    /// The transport had delivered the message [`Config::max_redeliveries`](super::Config::max_redeliveries) times or
    /// more, and no delivery ended: the message may end the process.
    Poison,
    /// An earlier dead letter holds the key.
    Parked,
    /// The wait before the next attempt is longer than the transport lets a message rest. The consumer replays the
    /// letter at its due time.
    Delayed,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Exhausted,
        Self::Undecodable,
        Self::Unknown,
        Self::Rejected,
        Self::Poison,
        Self::Parked,
        Self::Delayed,
    ];

    /// Returns the reason in kebab case, for logs, metrics and stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Undecodable => "undecodable",
            Self::Unknown => "unknown",
            Self::Rejected => "rejected",
            Self::Poison => "poison",
            Self::Parked => "parked",
            Self::Delayed => "delayed",
        }
    }
}

/// A message that a consumer has stopped handling.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// The id of the letter.
    pub id: LetterId,
    /// The place of the letter among all letters of the store: a letter that died later has a larger number. The
    /// store sets it. 0 in a letter that was not written yet.
    pub sequence: u64,
    /// The group of the consumer. Only consumers of this group replay the letter.
    pub group: String,
    /// The name of the source that delivered the message.
    pub source: String,
    /// The key of the message.
    pub key: String,
    /// The destination that the publisher named.
    pub topic: String,
    /// The content of the message.
    pub payload: Vec<u8>,
    /// The headers of the message.
    pub headers: Vec<(String, String)>,
    /// Why the message became a dead letter.
    pub reason: Reason,
    /// The text of the last error, for operators. At most 2000 characters.
    pub error: String,
    /// How many attempts have failed since the last delivery or replay.
    pub attempts: u32,
    /// How many times the letter was claimed for a replay.
    pub replays: u32,
    /// When the message became a dead letter: wall time since 1970.
    pub died_at: Duration,
    /// When a consumer replays the letter by itself: wall time since 1970. `None` if only an operator does.
    pub due_at: Option<Duration>,
    /// Whether later messages of the key are parked behind this letter.
    pub holds_key: bool,
}

impl Letter {
    /// Creates a letter without a content, an error and counts. A store sets the other fields.
    pub fn new(
        id: LetterId,
        group: impl Into<String>,
        source: impl Into<String>,
        key: impl Into<String>,
        reason: Reason,
    ) -> Self {
        Self {
            id,
            sequence: 0,
            group: group.into(),
            source: source.into(),
            key: key.into(),
            topic: String::new(),
            payload: Vec::new(),
            headers: Vec::new(),
            reason,
            error: String::new(),
            attempts: 0,
            replays: 0,
            died_at: Duration::ZERO,
            due_at: None,
            holds_key: false,
        }
    }
}

/// Which dead letters an operator means.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Select {
    /// The letters with these ids.
    Ids(Vec<LetterId>),
    /// The letters with this reason.
    Reason(Reason),
    /// All letters.
    All,
    /// The letters whose due time has come at this wall time since 1970.
    Due(Duration),
}

impl Select {
    /// Returns `true` if `letter` is meant.
    #[must_use]
    pub fn matches(&self, letter: &Letter) -> bool {
        match self {
            Self::Ids(ids) => ids.contains(&letter.id),
            Self::Reason(reason) => letter.reason == *reason,
            Self::All => true,
            Self::Due(now) => letter.due_at.is_some_and(|due| due <= *now),
        }
    }
}
