//! Adapts the user's classifiers to the parts. The user's classifier judges an answer of the
//! service. The kind of a stop decides about other results.

use std::time::Duration;

use super::attempt::Stop;
use crate::vocabulary::classify::{Classify, Outcome};
use crate::vocabulary::error::ErrorKind;

/// Classifier of results for the breaker. A refusal is ignored unless an attempt reached the
/// service. Every other stop is a failure.
#[derive(Clone, Copy, Debug)]
pub struct JudgeRequest<C>(pub(super) C);

#[diagnostic::do_not_recommend]
impl<C, Res, E> Classify<Result<Res, E>, Stop<E>> for JudgeRequest<C>
where
    C: Classify<Res, E>,
{
    fn classify(&self, result: &Result<Result<Res, E>, Stop<E>>) -> Outcome {
        match result {
            Ok(answer) => self.0.classify(answer),
            Err(Stop::Refused(refusal)) if refusal.never_reached_service() => Outcome::Ignored,
            Err(_) => Outcome::Failure,
        }
    }

    fn retry_after(&self, result: &Result<Result<Res, E>, Stop<E>>) -> Option<Duration> {
        self.0.retry_after(result.as_ref().ok()?)
    }
}

/// Classifier of results for the retry. A timeout is worth another attempt, a refusal of the gate
/// is not.
#[derive(Clone, Copy, Debug)]
pub struct JudgeAttempt<T>(pub(super) T);

#[diagnostic::do_not_recommend]
impl<T, Res, E> Classify<Result<Res, E>, Stop<E>> for JudgeAttempt<T>
where
    T: Classify<Res, E>,
{
    fn classify(&self, result: &Result<Result<Res, E>, Stop<E>>) -> Outcome {
        match result {
            Ok(answer) => self.0.classify(answer),
            Err(Stop::Refused(refusal)) if refusal.kind() == ErrorKind::CircuitOpen => {
                Outcome::Ignored
            }
            Err(_) => Outcome::Failure,
        }
    }

    fn retry_after(&self, result: &Result<Result<Res, E>, Stop<E>>) -> Option<Duration> {
        self.0.retry_after(result.as_ref().ok()?)
    }
}
