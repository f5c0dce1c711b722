//! The model of a saga: its plan, its log, and the decision about the next steps.

pub(in crate::saga) mod child;
pub(in crate::saga) mod drawing;
pub(in crate::saga) mod entry;
pub(in crate::saga) mod id;
pub(in crate::saga) mod invalid;
pub(in crate::saga) mod plan;
pub(in crate::saga) mod retry;
pub(in crate::saga) mod shape;
pub(in crate::saga) mod state;
