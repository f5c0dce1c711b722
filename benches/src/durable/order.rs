//! Messages with their numbers, and a publisher that only checks the order.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use buttress_durable::outbox::Message;
use tower::{BoxError, Service};

pub const KEYS: u64 = 100;
/// The size of a message in bytes.
const SIZE: usize = 128;

/// Returns the payload of the message `number` of a key.
pub fn payload(key: u64, number: u64) -> Vec<u8> {
    let mut payload = Vec::with_capacity(SIZE);
    payload.extend(key.to_le_bytes());
    payload.extend(number.to_le_bytes());
    payload.resize(SIZE, b'.');
    payload
}

/// Returns `count` messages, with the keys in turn.
pub fn messages(count: u64) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..count).map(|at| {
        let (key, number) = (at % KEYS, at / KEYS);
        (format!("key-{key}"), payload(key, number))
    })
}

/// The last number of each key.
#[derive(Debug)]
struct Seen {
    next: Vec<AtomicU64>,
    in_order: AtomicU64,
    out_of_order: AtomicU64,
    others: AtomicU64,
}

/// A publisher that answers immediately. Clones share their counts.
#[derive(Clone, Debug)]
pub struct Publisher(Arc<Seen>);

impl Publisher {
    pub fn new() -> Self {
        let next = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
        let zero = || AtomicU64::new(0);
        Self(Arc::new(Seen { next, in_order: zero(), out_of_order: zero(), others: zero() }))
    }

    /// Returns the number of messages in order.
    pub fn in_order(&self) -> u64 {
        self.0.in_order.load(Relaxed)
    }

    /// Returns the number of messages that came after a later message of their key, or twice.
    pub fn out_of_order(&self) -> u64 {
        self.0.out_of_order.load(Relaxed)
    }

    pub fn take(&self, payload: &[u8]) {
        let word = |at: usize| {
            let bytes = payload.get(at..at + 8).expect("long enough");
            u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
        };
        let (key, number) = (word(0), word(8));
        let Some(next) = self.0.next.get(key as usize) else {
            self.0.others.fetch_add(1, Relaxed);
            return;
        };
        let in_order = next.swap(number + 1, Relaxed) == number;
        let count = if in_order { &self.0.in_order } else { &self.0.out_of_order };
        count.fetch_add(1, Relaxed);
    }
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new()
    }
}

impl Service<Message> for Publisher {
    type Response = ();
    type Error = BoxError;
    type Future = Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: Message) -> Self::Future {
        self.take(&message.payload);
        ready(Ok(()))
    }
}
