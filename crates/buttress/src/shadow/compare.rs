//! How the answers of primary and mirror are compared.

use std::borrow::Cow;
use std::fmt;
use std::future::{Future, Ready, ready};

/// The difference between two answers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Mismatch {
    what: Cow<'static, str>,
}

impl Mismatch {
    /// Creates a mismatch. `what` names the difference, for logs. Keep personal data out of this text.
    pub fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self { what: what.into() }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// The result of a comparison.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// The answers are equal in everything that the comparison checks.
    Same,
    /// The answers differ.
    Different(Mismatch),
    /// The answers cannot be compared: one of them is not complete.
    Incomparable,
    /// The answers are not compared.
    Skipped,
}

/// A comparison of two answers.
///
/// The answer of the primary belongs to the caller. So [`note`](Self::note) copies the parts of the answer
/// that the comparison needs. The mirror's answer is compared with the note.
pub trait Compare<Res, E> {
    /// The note of the answer of the primary.
    type Note;
    /// The comparison. Dropping it makes the answers incomparable.
    type Comparing: Future<Output = Comparison>;

    /// Records the answer of the primary, before the caller gets it. It must not block.
    fn note(&self, primary: &Result<Res, E>) -> Self::Note;

    /// Compares the answer of the mirror with the note, on the task of the mirrored call.
    fn compare(&self, note: Self::Note, mirror: Result<Res, E>) -> Self::Comparing;
}

/// The answer of the mirror is dropped. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotCompared;

impl<Res, E> Compare<Res, E> for NotCompared {
    type Note = ();
    type Comparing = Ready<Comparison>;

    #[inline]
    fn note(&self, _: &Result<Res, E>) {}

    fn compare(&self, _note: (), _: Result<Res, E>) -> Ready<Comparison> {
        ready(Comparison::Skipped)
    }
}

/// Comparison by fingerprints. [`by_fingerprint`] makes it.
#[derive(Clone, Copy)]
pub struct ByFingerprint<F> {
    of: F,
}

/// Compares what `of` returns for both answers, for example a status and a digest.
///
/// ```
/// use buttress::shadow::by_fingerprint;
/// let totals = by_fingerprint(|answer: &Result<(u64, String), String>| {
///     answer.as_ref().ok().map(|(total, _)| *total)
/// });
/// ```
pub fn by_fingerprint<Res, E, P, F>(of: F) -> ByFingerprint<F>
where
    F: Fn(&Result<Res, E>) -> P,
    P: PartialEq,
{
    ByFingerprint { of }
}

impl<Res, E, P, F> Compare<Res, E> for ByFingerprint<F>
where
    F: Fn(&Result<Res, E>) -> P,
    P: PartialEq,
{
    type Note = P;
    type Comparing = Ready<Comparison>;

    fn note(&self, primary: &Result<Res, E>) -> P {
        (self.of)(primary)
    }

    fn compare(&self, note: P, mirror: Result<Res, E>) -> Ready<Comparison> {
        ready(if (self.of)(&mirror) == note {
            Comparison::Same
        } else {
            Comparison::Different(Mismatch::new("the fingerprints differ"))
        })
    }
}

impl<F> fmt::Debug for ByFingerprint<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByFingerprint").finish_non_exhaustive()
    }
}
