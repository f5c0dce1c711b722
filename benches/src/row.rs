//! A row: one path through one pattern, and the expected results of its calls.

/// Which calls of a row succeed. Every candidate is checked, so that none is measured doing less.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answers {
    All,
    None,
    /// The calls of even requests.
    EveryOther,
    /// All except one in every hundred.
    NinetyNineOfHundred,
}

impl Answers {
    /// Returns how many of an even number of calls succeed.
    pub fn of(self, calls: u64) -> u64 {
        match self {
            Self::All => calls,
            Self::None => 0,
            Self::EveryOther => calls / 2,
            Self::NinetyNineOfHundred => calls - calls / 100,
        }
    }
}

/// One path through one pattern. The name begins with the pattern's.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    pub answers: Answers,
}

impl Row {
    pub const fn all(name: &'static str) -> Self {
        Self { name, answers: Answers::All }
    }

    pub const fn none(name: &'static str) -> Self {
        Self { name, answers: Answers::None }
    }

    pub const fn every_other(name: &'static str) -> Self {
        Self { name, answers: Answers::EveryOther }
    }

    pub const fn one_in_hundred_fails(name: &'static str) -> Self {
        Self { name, answers: Answers::NinetyNineOfHundred }
    }

    /// Stops the program unless the expected number of `calls` succeeded.
    pub fn expect(self, candidate: &str, calls: u64, succeeded: u64) {
        let expected = self.answers.of(calls);
        assert!(
            succeeded == expected,
            "{candidate} is set up wrongly for \"{}\": {succeeded} of {calls} calls succeeded, \
             and {expected} must",
            self.name,
        );
    }
}
