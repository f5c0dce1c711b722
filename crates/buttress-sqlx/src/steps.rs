//! The steps of a schema: the statements that create each version from the version before it.

/// Defines the steps from their files, and the version after them.
macro_rules! steps {
    ($($file:literal)+) => {
        /// The statements that create each version from the version before it.
        const STEPS: &[&str] = &[$(include_str!($file)),+];

        /// The version of the tables that this release creates.
        pub(super) const VERSION: i64 = STEPS.len() as i64;
    };
}
pub(crate) use steps;
