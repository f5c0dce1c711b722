use crate::measure::Event;

/// An invariant that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which.
    pub invariant: String,
    /// After what.
    pub event: Event,
    /// The how many-th event of the run that was.
    pub number: u64,
    /// What it said.
    pub what: String,
}
