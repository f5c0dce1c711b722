//! [`Tape`]: converts between answers and stored values.

use std::fmt;
use std::future::{Future, Ready, ready};

/// A conversion of the answers of a service to stored values, and stored values to answers.
///
/// Ready-made implementations:
/// - [`Answers`], the default, keeps clones of successful responses.
/// - [`AnswersIf`] keeps clones of successful responses for which a closure returns `true`.
/// - [`Results`] keeps clones of whole results, also errors, for which a closure returns `true`.
/// - [`ByFn`] converts with two closures that do not wait.
///
/// Implement it if a conversion takes time, such as collecting the body of an HTTP response. The
/// layer renews the claim meanwhile.
pub trait Tape<Res, E> {
    /// The stored value. It is cloned when other calls wait for the same answer.
    type Value;
    /// The future of the conversion of an answer.
    type Recording: Future<Output = Recorded<Res, E, Self::Value>>;

    /// Begins to convert `answer` to a stored value.
    fn record(&self, answer: Result<Res, E>) -> Self::Recording;

    /// Returns the answer for a stored `value`.
    fn replay(&self, value: Self::Value) -> Result<Res, E>;
}

/// The result of converting an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded<Res, E, V> {
    /// The answer for the caller.
    pub answer: Result<Res, E>,
    /// The value for repetitions of the call.
    pub value: Kept<V>,
}

/// The stored part of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept<V> {
    /// The store keeps this value, and the layer answers repetitions of the call with it.
    Value(V),
    /// The store keeps no value, and the call counts as failed. The key is free, or left as
    /// [`failed_calls`](super::Config::failed_calls) says, and another call does the work again.
    Failed,
    /// The store keeps no value, although the work is done, e.g. because the answer is too large. Repetitions of
    /// the call are refused as [`ResultNotKept`](crate::ErrorKind::ResultNotKept), unless
    /// [`rerun_if_not_kept`](super::Config::rerun_if_not_kept) is on.
    Lost,
}

impl<V> From<Option<V>> for Kept<V> {
    /// Converts `None` to a failed call.
    #[inline]
    fn from(value: Option<V>) -> Self {
        value.map_or(Self::Failed, Self::Value)
    }
}

/// A tape that keeps clones of successful responses, and no errors. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers;

impl<Res: Clone, E> Tape<Res, E> for Answers {
    type Value = Res;
    type Recording = Ready<Recorded<Res, E, Res>>;

    #[inline]
    fn record(&self, answer: Result<Res, E>) -> Self::Recording {
        let value = answer.as_ref().ok().cloned().into();
        ready(Recorded { answer, value })
    }

    #[inline]
    fn replay(&self, value: Res) -> Result<Res, E> {
        Ok(value)
    }
}

/// A tape that keeps clones of the successful responses for which a closure returns `true`.
/// [`IdempotencyLayer::keep_if`](super::IdempotencyLayer::keep_if) makes it.
#[derive(Clone, Copy)]
pub struct AnswersIf<P> {
    pub(super) keep: P,
}

impl<Res: Clone, E, P: Fn(&Res) -> bool> Tape<Res, E> for AnswersIf<P> {
    type Value = Res;
    type Recording = Ready<Recorded<Res, E, Res>>;

    fn record(&self, answer: Result<Res, E>) -> Self::Recording {
        let value = answer.as_ref().ok().filter(|answer| (self.keep)(answer)).cloned().into();
        ready(Recorded { answer, value })
    }

    fn replay(&self, value: Res) -> Result<Res, E> {
        Ok(value)
    }
}

/// A tape that keeps clones of whole results, also errors, for which a closure returns `true`.
/// [`IdempotencyLayer::keep_results`](super::IdempotencyLayer::keep_results) makes it.
#[derive(Clone, Copy)]
pub struct Results<P> {
    pub(super) keep: P,
}

impl<Res: Clone, E: Clone, P: Fn(&Result<Res, E>) -> bool> Tape<Res, E> for Results<P> {
    type Value = Result<Res, E>;
    type Recording = Ready<Recorded<Res, E, Result<Res, E>>>;

    fn record(&self, answer: Result<Res, E>) -> Self::Recording {
        let value = (self.keep)(&answer).then(|| answer.clone()).into();
        ready(Recorded { answer, value })
    }

    fn replay(&self, value: Result<Res, E>) -> Result<Res, E> {
        value
    }
}

/// A tape that converts results to values with one closure, and values to results with another.
/// [`IdempotencyLayer::keep_as`](super::IdempotencyLayer::keep_as) makes it.
#[derive(Clone, Copy)]
pub struct ByFn<W, P> {
    pub(super) record: W,
    pub(super) replay: P,
}

impl<Res, E, V, W, P> Tape<Res, E> for ByFn<W, P>
where
    W: Fn(&Result<Res, E>) -> Option<V>,
    P: Fn(V) -> Result<Res, E>,
{
    type Value = V;
    type Recording = Ready<Recorded<Res, E, V>>;

    fn record(&self, answer: Result<Res, E>) -> Self::Recording {
        let value = (self.record)(&answer).into();
        ready(Recorded { answer, value })
    }

    fn replay(&self, value: V) -> Result<Res, E> {
        (self.replay)(value)
    }
}

impl<P> fmt::Debug for AnswersIf<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswersIf").finish_non_exhaustive()
    }
}

impl<P> fmt::Debug for Results<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").finish_non_exhaustive()
    }
}

impl<W, P> fmt::Debug for ByFn<W, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByFn").finish_non_exhaustive()
    }
}
