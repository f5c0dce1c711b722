//! Rows of idempotency.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use buttress::Clock;
use buttress::idempotency::{Config, IdempotencyLayer, IntoKey, Key, MemoryStore};
use tower::{Layer, Service};

use super::{BUTTRESS, FLOOR};
use crate::floors::idempotency::Idempotency;
use crate::peers::{MOKA, TOWER_RESILIENCE, moka, tower_resilience};
use crate::row::Row;
use crate::subject::{Meter, call_once};
use crate::workload::{FailsAfter, Succeeds};

pub const STORED: Row = Row::all("idempotency: stored answer");
pub const FIRST: Row = Row::all("idempotency: first call");
pub const STORED_BY_TEXT: Row = Row::all("idempotency: stored answer, key made of text");
pub const FIRST_BY_TEXT: Row = Row::all("idempotency: first call, key made of text");

/// All rows of idempotency.
pub const ROWS: [Row; 4] = [STORED, FIRST, STORED_BY_TEXT, FIRST_BY_TEXT];

pub const NOTES: &[&str] = &[
    "Idempotency: a key is 20 bytes of text. A prepared key is shared, in the form that each \
     candidate uses. Otherwise the key is text on the stack, and a candidate that stores it \
     converts it. Every candidate keeps 256 answers for an hour. The floor is a locked map that \
     also holds the calls in flight. It hashes a key once, with the same function as buttress. \
     tower-resilience is its cache, which lets calls with one key run concurrently; moka is its \
     `try_get_with`, which does not. buttress hashes a key when it is made, the others at the \
     lookup.",
    "Idempotency, stored answer: 64 keys in turn, and a service that would fail.",
    "Idempotency, first call: a new key, and the oldest answer is evicted.",
];

/// The number of stored answers.
pub const KEPT: usize = 256;
pub const LIFETIME: Duration = Duration::from_secs(3600);
/// The number of keys with a stored answer.
const KEYS: u64 = 64;

/// A key as text.
#[derive(Clone)]
pub struct Text([u8; 20]);

impl Text {
    fn new(number: u64) -> Self {
        let mut text = *b"key-0000000000000000";
        for (at, digit) in text[4..].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(number >> (60 - 4 * at)) as usize & 15];
        }
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits")
    }
}

/// A function that finds the key of a request.
pub type Find<T> = fn(&u64) -> T;

/// The key type of the floor and the peers.
pub trait Asked: Clone + Send + 'static {
    fn as_str(&self) -> &str;
    fn into_key(self) -> Arc<str>;
}

/// The key type of the floor. Its hash is known, because buttress's key has its hash too.
pub trait Hashed: Asked {
    fn hash(&self) -> u64;
}

/// A key that was hashed when it was made.
#[derive(Clone)]
pub struct Ready {
    hash: u64,
    text: Arc<str>,
}

/// SipHash with a secret of this process, as buttress hashes its keys.
fn hash(text: &str) -> u64 {
    static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    SECRET.hash_one(text.as_bytes())
}

impl Asked for Ready {
    #[inline]
    fn as_str(&self) -> &str {
        &self.text
    }

    #[inline]
    fn into_key(self) -> Arc<str> {
        self.text
    }
}

impl Hashed for Ready {
    #[inline]
    fn hash(&self) -> u64 {
        self.hash
    }
}

impl Hashed for Text {
    #[inline]
    fn hash(&self) -> u64 {
        hash(self.as_str())
    }
}

impl Asked for Text {
    #[inline]
    fn as_str(&self) -> &str {
        self.as_str()
    }

    #[inline]
    fn into_key(self) -> Arc<str> {
        self.as_str().into()
    }
}

impl Asked for Arc<str> {
    #[inline]
    fn as_str(&self) -> &str {
        self
    }

    #[inline]
    fn into_key(self) -> Arc<str> {
        self
    }
}

/// Returns one of a few keys.
fn again(request: &u64) -> Text {
    Text::new(request % KEYS)
}

/// Returns the next number of this thread, unique over all threads.
fn next() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NEXT: Cell<u64> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) << 48);
    }
    NEXT.replace(NEXT.get() + 1)
}

/// Returns a new key, whatever the request and the thread.
fn fresh(_: &u64) -> Text {
    Text::new(next())
}

/// Returns the index of the next prepared key. It is in this thread's half, and its last use is
/// more than `KEPT` keys ago. Threads come in pairs or alone.
fn place() -> usize {
    let next = next() as usize;
    next % (READY / 2) + (next >> 48) % 2 * (READY / 2)
}

const READY: usize = 1 << 16;

fn ready<T>(key: fn(&str) -> T) -> Vec<T> {
    (0..READY as u64).map(|number| key(Text::new(number).as_str())).collect()
}

static KEYS_AT_HAND: LazyLock<Vec<Key>> =
    LazyLock::new(|| ready(|text| Key::new(text).expect("valid")));
static HASHED_AT_HAND: LazyLock<Vec<Ready>> =
    LazyLock::new(|| ready(|text| Ready { hash: hash(text), text: text.into() }));
static TEXTS_AT_HAND: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| ready(|text| text.into()));

fn buttress<S, O: IntoKey + 'static>(
    inner: S,
    key: fn(&u64) -> O,
) -> impl Service<u64, Response = u64, Future: Send> + Clone + Send
where
    S: Service<u64, Response = u64, Error = crate::workload::Failure, Future: Send + 'static>,
    S: Clone + Send + 'static,
{
    let store = MemoryStore::<u64>::with_capacity(Clock::default(), KEPT).expect("valid");
    let config = Config::new().result_lifetime(LIFETIME);
    IdempotencyLayer::new(config, store, key).expect("valid").layer(inner)
}

/// Stores the answers, and makes the service fail repeated requests.
fn stored<S: Service<u64, Response = u64>>(make: impl FnOnce(FailsAfter) -> S) -> S {
    let mut service = make(FailsAfter(Arc::new(AtomicU64::new(KEYS))));
    for request in 0..KEYS {
        assert!(call_once(&mut service, request), "the first of a key succeeds");
    }
    service
}

/// Fills the store until its maps have their final size. The call at which they grow depends on the
/// hashes.
fn full<S: Service<u64, Response = u64>>(mut service: S) -> S {
    for request in 0..20_000 {
        assert!(call_once(&mut service, request), "a first call succeeds");
    }
    service
}

pub fn visit(meter: &mut impl Meter) {
    meter.shared(STORED, BUTTRESS, || {
        stored(|inner| buttress(inner, |request| KEYS_AT_HAND[(request % KEYS) as usize].clone()))
    });
    let find: Find<Arc<str>> = |request| TEXTS_AT_HAND[(request % KEYS) as usize].clone();
    floor_stored(meter, STORED, |request| HASHED_AT_HAND[(request % KEYS) as usize].clone());
    others_stored(meter, STORED, find);
    meter.shared(FIRST, BUTTRESS, || full(buttress(Succeeds, |_| KEYS_AT_HAND[place()].clone())));
    let find: Find<Arc<str>> = |_| TEXTS_AT_HAND[place()].clone();
    floor_first(meter, FIRST, |_| HASHED_AT_HAND[place()].clone());
    others_first(meter, FIRST, find);

    meter.shared(STORED_BY_TEXT, BUTTRESS, || {
        stored(|inner| buttress(inner, |request| Key::new(again(request).as_str())))
    });
    floor_stored(meter, STORED_BY_TEXT, again);
    others_stored(meter, STORED_BY_TEXT, again);
    meter.shared(FIRST_BY_TEXT, BUTTRESS, || {
        full(buttress(Succeeds, |request| Key::new(fresh(request).as_str())))
    });
    floor_first(meter, FIRST_BY_TEXT, fresh);
    others_first(meter, FIRST_BY_TEXT, fresh);
}

fn floor_stored<T: Hashed>(meter: &mut impl Meter, row: Row, find: Find<T>) {
    meter.shared(row, FLOOR, move || stored(|inner| Idempotency::new(inner, find)));
}

fn floor_first<T: Hashed>(meter: &mut impl Meter, row: Row, find: Find<T>) {
    meter.shared(row, FLOOR, move || full(Idempotency::new(Succeeds, find)));
}

fn others_stored<T: Asked>(meter: &mut impl Meter, row: Row, find: Find<T>) {
    meter.shared(row, MOKA, move || stored(|inner| moka::Cached::new(inner, find)));
    meter.shared(row, TOWER_RESILIENCE, move || {
        stored(|inner| tower_resilience::cache(inner, find))
    });
}

fn others_first<T: Asked>(meter: &mut impl Meter, row: Row, find: Find<T>) {
    meter.shared(row, MOKA, move || full(moka::Cached::new(Succeeds, find)));
    meter.shared(row, TOWER_RESILIENCE, move || full(tower_resilience::cache(Succeeds, find)));
}
