//! [`Tape`]: how an answer becomes what a store keeps, and is given again.

use std::fmt;
use std::future::{Future, Ready, ready};

/// Makes values to store of the answers of a service, and answers of stored values.
///
/// Ready-made:
/// - [`Answers`], the default, keeps clones of successful responses;
/// - [`AnswersIf`] only those for which a closure is true;
/// - [`Results`] keeps clones of whole results, errors too, where a closure says so;
/// - [`ByFn`] is two closures, for anything that can be done without waiting.
///
/// Implement it where making a value takes time, such as collecting the body of an HTTP response. The
/// claim is renewed meanwhile.
pub trait Tape<Res, E> {
    /// What the store keeps. It is cloned when others wait for the same answer.
    type Value;
    /// Makes a value of an answer.
    type Recording: Future<Output = Recorded<Res, E, Self::Value>>;

    /// Begins to make a value of `answer`.
    fn record(&self, answer: Result<Res, E>) -> Self::Recording;

    /// Returns the answer that was made into `value`.
    fn replay(&self, value: Self::Value) -> Result<Res, E>;
}

/// What a [`Tape`] makes of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded<Res, E, V> {
    /// What the caller gets.
    pub answer: Result<Res, E>,
    /// What is stored for repetitions of the call.
    pub value: Kept<V>,
}

/// What is stored of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept<V> {
    /// This value, which repetitions of the call are answered with.
    Value(V),
    /// Nothing: the call counts as failed. The key is free, or left as
    /// [`failed_calls`](super::Config::failed_calls) says, and another call does the work again.
    Failed,
    /// Nothing, although the work is done: its answer is too large, say. Repetitions of the call are refused
    /// as [`ResultNotKept`](crate::ErrorKind::ResultNotKept), unless
    /// [`rerun_if_not_kept`](super::Config::rerun_if_not_kept) is set.
    Lost,
}

impl<V> From<Option<V>> for Kept<V> {
    /// `None` is a failed call.
    #[inline]
    fn from(value: Option<V>) -> Self {
        value.map_or(Self::Failed, Self::Value)
    }
}

/// Keeps clones of successful responses; errors are not stored. The default.
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

/// Keeps clones of the successful responses for which a closure is true. Made by
/// [`IdempotencyLayer::keep_if`](super::IdempotencyLayer::keep_if).
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

/// Keeps clones of whole results, errors too, where a closure is true. Made by
/// [`IdempotencyLayer::keep_results`](super::IdempotencyLayer::keep_results).
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

/// A value is what one closure makes of a result, and a result what another makes of the value. Made
/// by [`IdempotencyLayer::keep_as`](super::IdempotencyLayer::keep_as).
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
