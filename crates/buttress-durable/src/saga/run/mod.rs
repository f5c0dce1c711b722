//! The run of an executor: the lease of its worker, the task of each saga, recovery, and operators'
//! decisions.

pub(in crate::saga) mod attaching;
pub(in crate::saga) mod attempt;
pub(in crate::saga) mod bond;
pub(in crate::saga) mod call;
pub(in crate::saga) mod child;
pub(in crate::saga) mod counters;
pub(in crate::saga) mod draft;
pub(in crate::saga) mod drive;
pub(in crate::saga) mod execution;
pub(in crate::saga) mod executor;
mod keeping;
pub(in crate::saga) mod lease;
pub(in crate::saga) mod migration;
pub(in crate::saga) mod operators;
pub(in crate::saga) mod origin;
mod purging;
pub(in crate::saga) mod recovery;
pub(in crate::saga) mod searching;
pub(in crate::saga) mod shared;
pub(in crate::saga) mod signalling;
pub(in crate::saga) mod slots;
pub(in crate::saga) mod starting;
pub(in crate::saga) mod step_runs;
pub(in crate::saga) mod transactional;
pub(in crate::saga) mod troubles;
pub(in crate::saga) mod versions;
mod waking;
