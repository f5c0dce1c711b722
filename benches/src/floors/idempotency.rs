//! A locked map of answers and of calls in flight.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hashbrown::HashTable;
use pin_project_lite::pin_project;

use super::Either;
use crate::guarded::{Guard, Guarded, Inner};
use crate::patterns::idempotency::{Find, Hashed, KEPT, LIFETIME};
use crate::workload::Failure;

enum Slot {
    InFlight,
    Done { answer: u64, until: Instant },
}

/// A key with its hash, which is computed once.
#[derive(Clone)]
struct Key {
    hash: u64,
    text: Arc<str>,
}

#[derive(Default)]
pub struct Answers {
    slots: HashTable<(Key, Slot)>,
    oldest_first: VecDeque<Key>,
}

impl Answers {
    #[inline]
    fn find(&mut self, hash: u64, text: &str) -> Option<&mut Slot> {
        let slot = self.slots.find_mut(hash, |(key, _)| key.hash == hash && *key.text == *text);
        slot.map(|(_, slot)| slot)
    }

    fn insert(&mut self, key: Key, slot: Slot) {
        self.slots.insert_unique(key.hash, (key, slot), |(key, _)| key.hash);
    }

    fn remove(&mut self, gone: &Key) {
        let same = |(key, _): &(Key, Slot)| key.hash == gone.hash && key.text == gone.text;
        if let Ok(entry) = self.slots.find_entry(gone.hash, same) {
            entry.remove();
        }
    }
}

/// Answers a key that is known.
#[derive(Clone)]
pub struct Once<T> {
    find: Find<T>,
    answers: Arc<Mutex<Answers>>,
}

pub type Idempotency<S, T> = Guarded<S, Once<T>>;

impl<S, T> Idempotency<S, T> {
    pub fn new(inner: S, find: Find<T>) -> Self {
        Self { inner, guard: Once { find, answers: Arc::default() } }
    }
}

pin_project! {
    pub struct Storing<F> {
        #[pin]
        future: F,
        key: Key,
        answers: Arc<Mutex<Answers>>,
    }
}

impl<F: Future<Output = Result<u64, E>>, E> Future for Storing<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        let mut answers = this.answers.lock().expect("no holder panics");
        let Ok(answer) = result else {
            answers.remove(this.key);
            return Poll::Ready(result);
        };
        let slot = answers.find(this.key.hash, &this.key.text).expect("it is in flight");
        *slot = Slot::Done { answer, until: Instant::now() + LIFETIME };
        answers.oldest_first.push_back(this.key.clone());
        if answers.oldest_first.len() > KEPT {
            let oldest = answers.oldest_first.pop_front().expect("there are more");
            answers.remove(&oldest);
        }
        Poll::Ready(result)
    }
}

impl<S: Inner, T: Hashed> Guard<S> for Once<T> {
    type Future = Either<Storing<S::Future>, Result<u64, Failure>>;

    #[inline]
    fn call(&self, inner: &mut S, request: u64) -> Self::Future {
        let asked = (self.find)(&request);
        let hash = asked.hash();
        let mut answers = self.answers.lock().expect("no holder panics");
        let found = answers.find(hash, asked.as_str());
        let expired = found.is_some();
        match found {
            Some(Slot::Done { answer, until }) if Instant::now() < *until => {
                return Either::Refused { result: Some(Ok(*answer)) };
            }
            Some(Slot::InFlight) => {
                return Either::Refused { result: Some(Err(Failure::ByPeer)) };
            }
            _ => {}
        }
        let key = Key { hash, text: asked.into_key() };
        if expired {
            answers.remove(&key);
        }
        answers.insert(key.clone(), Slot::InFlight);
        drop(answers);
        let future = inner.call(request);
        Either::Inner { future: Storing { future, key, answers: self.answers.clone() } }
    }
}
