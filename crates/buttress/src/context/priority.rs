//! [`Priority`]: which request may be refused first.

use std::fmt;

/// How important a request is: 0 is the most important, 4 the least, and 2 the default.
///
/// A layer that sheds load refuses the less important requests first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Priority(u8);

impl Priority {
    /// The most important requests, e.g. health checks and payments in progress.
    pub const HIGHEST: Self = Self(0);
    /// The least important requests, e.g. prefetching.
    pub const LOWEST: Self = Self(4);

    /// Returns the priority with this number, or `None` if the number is above 4.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number <= Self::LOWEST.0 { Some(Self(number)) } else { None }
    }

    /// Returns the number, from 0 to 4.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    /// Returns priority 2, in the middle.
    fn default() -> Self {
        Self(2)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_a_number_from_0_to_4() {
        let numbers: Vec<_> = (0..=6).map(|n| Priority::new(n).map(Priority::get)).collect();
        assert_eq!(numbers, [Some(0), Some(1), Some(2), Some(3), Some(4), None, None]);
        assert_eq!(Priority::default().get(), 2);
        assert!(Priority::HIGHEST < Priority::LOWEST);
    }
}
