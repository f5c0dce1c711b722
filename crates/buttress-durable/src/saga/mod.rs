#![doc = include_str!("../guide/saga.md")]

mod attaching;
mod attempt;
mod bounded;
mod builder;
mod call;
mod config;
mod counters;
mod definition;
mod draft;
mod drawing;
mod error;
mod execution;
mod executor;
mod flight;
mod lease;
mod memory;
mod needs;
mod operators;
mod plan;
mod purging;
mod recovery;
mod report;
mod run;
mod shared;
mod slots;
mod starting;
mod state;
mod step;
mod store;
mod troubles;

pub use builder::{Builder, StepBuilder};
pub use call::{Call, Direction, Leaf, LeafFuture, StepKey};
pub use config::Config;
pub use definition::Definition;
pub use error::SagaError;
pub use execution::Execution;
pub use executor::Executor;
pub use memory::MemoryStore;
pub use needs::{Needs, Outputs, StepHandle, StepRef};
pub use operators::Resolution;
pub use plan::{InvalidDefinition, Kind, OnCrash};
pub use recovery::Recovery;
pub use report::{Report, Stats, StepStatus, Tree, TreeStep};
pub use step::ActionBuilder;
pub use store::{
    Append, Appended, Entry, EntryKind, NewSaga, Record, SagaId, Status, Store, Summary, TakenOver,
    WorkerId,
};
