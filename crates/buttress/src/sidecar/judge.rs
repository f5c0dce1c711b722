//! Adapts the user's classifiers to the parts. The user's classifier judges an answer of the
//! service. The kind of a stop decides about other results.

use std::marker::PhantomData;
use std::time::Duration;

use super::attempt::Stop;
use crate::vocabulary::classify::{Classify, Outcome};
use crate::vocabulary::error::{Error, ErrorKind};

/// The refusals that say nothing about the service.
pub trait Ignores {
    /// Returns `true` if `refusal` is ignored.
    fn ignores(refusal: &Error) -> bool;
}

/// The rule of the breaker: it ignores a refusal unless an attempt reached the service.
#[derive(Clone, Copy, Debug)]
pub enum Requests {}

impl Ignores for Requests {
    fn ignores(refusal: &Error) -> bool {
        refusal.never_reached_service()
    }
}

/// The rule of the retry: a timeout is worth another attempt, a refusal of the gate is not.
#[derive(Clone, Copy, Debug)]
pub enum Attempts {}

impl Ignores for Attempts {
    fn ignores(refusal: &Error) -> bool {
        refusal.kind() == ErrorKind::CircuitOpen
    }
}

/// A classifier of results for a part. Every stop that `I` does not ignore is a failure.
#[derive(Clone, Copy, Debug)]
pub struct Judge<C, I>(C, PhantomData<I>);

impl<C, I> Judge<C, I> {
    pub(super) const fn new(classify: C) -> Self {
        Self(classify, PhantomData)
    }
}

#[diagnostic::do_not_recommend]
impl<C, I, Res, E> Classify<Result<Res, E>, Stop<E>> for Judge<C, I>
where
    C: Classify<Res, E>,
    I: Ignores,
{
    fn classify(&self, result: &Result<Result<Res, E>, Stop<E>>) -> Outcome {
        match result {
            Ok(answer) => self.0.classify(answer),
            Err(Stop::Refused(refusal)) if I::ignores(refusal) => Outcome::Ignored,
            Err(_) => Outcome::Failure,
        }
    }

    fn retry_after(&self, result: &Result<Result<Res, E>, Stop<E>>) -> Option<Duration> {
        self.0.retry_after(result.as_ref().ok()?)
    }
}
