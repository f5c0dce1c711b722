//! What a saga is: its plan, its log, and the decision what happens next.

pub(in crate::saga) mod drawing;
pub(in crate::saga) mod entry;
pub(in crate::saga) mod plan;
pub(in crate::saga) mod state;
