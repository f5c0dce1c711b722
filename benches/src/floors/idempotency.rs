//! A locked map of answers and of calls in flight.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use pin_project_lite::pin_project;
use tower::Service;

use super::Either;
use crate::patterns::idempotency::{Asked, Find, KEPT, LIFETIME};
use crate::workload::Failure;

enum Slot {
    InFlight,
    Done { answer: u64, until: Instant },
}

#[derive(Default)]
struct Answers {
    slots: HashMap<Arc<str>, Slot>,
    oldest_first: VecDeque<Arc<str>>,
}

#[derive(Clone)]
pub struct Idempotency<S, T> {
    inner: S,
    find: Find<T>,
    answers: Arc<Mutex<Answers>>,
}

impl<S, T> Idempotency<S, T> {
    pub fn new(inner: S, find: Find<T>) -> Self {
        Self { inner, find, answers: Arc::default() }
    }
}

pin_project! {
    pub struct Storing<F> {
        #[pin]
        future: F,
        key: Arc<str>,
        answers: Arc<Mutex<Answers>>,
    }
}

impl<F: Future<Output = Result<u64, E>>, E> Future for Storing<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        let mut answers = this.answers.lock().expect("nobody panics");
        let Ok(answer) = result else {
            answers.slots.remove(this.key);
            return Poll::Ready(result);
        };
        let slot = answers.slots.get_mut(this.key).expect("it is in flight");
        *slot = Slot::Done { answer, until: Instant::now() + LIFETIME };
        answers.oldest_first.push_back(this.key.clone());
        if answers.oldest_first.len() > KEPT {
            let oldest = answers.oldest_first.pop_front().expect("there are more");
            answers.slots.remove(&oldest);
        }
        Poll::Ready(result)
    }
}

impl<S, T: Asked> Service<u64> for Idempotency<S, T>
where
    S: Service<u64, Response = u64, Error = Failure>,
{
    type Response = u64;
    type Error = Failure;
    type Future = Either<Storing<S::Future>, Result<u64, Failure>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        let asked = (self.find)(&request);
        let mut answers = self.answers.lock().expect("nobody panics");
        match answers.slots.get(asked.as_str()) {
            Some(Slot::Done { answer, until }) if Instant::now() < *until => {
                return Either::Refused { result: Some(Ok(*answer)) };
            }
            Some(Slot::InFlight) => {
                return Either::Refused { result: Some(Err(Failure::ByPeer)) };
            }
            _ => {}
        }
        let key = asked.into_key();
        answers.slots.insert(key.clone(), Slot::InFlight);
        drop(answers);
        let future = self.inner.call(request);
        Either::Inner { future: Storing { future, key, answers: self.answers.clone() } }
    }
}
