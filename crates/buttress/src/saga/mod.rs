#![doc = include_str!("../guide/saga.md")]

mod attempt;
mod call;
mod config;
mod definition;
mod drawing;
mod executor;
mod flight;
mod lease;
mod memory;
mod needs;
mod plan;
mod report;
mod run;
mod state;
mod step;
mod store;

pub use call::{Call, Direction, Leaf, LeafFuture, StepKey};
pub use config::Config;
pub use definition::{Builder, Definition, StepBuilder};
pub use executor::{Execution, Executor, Recovery, Resolution};
pub use memory::MemoryStore;
pub use needs::{Needs, Outputs, StepHandle, StepRef};
pub use plan::{InvalidDefinition, Kind, OnCrash};
pub use report::{Report, SagaError, Stats, StepStatus, Tree, TreeStep};
pub use step::ActionBuilder;
pub use store::{
    Append, Appended, Entry, EntryKind, NewSaga, Record, SagaId, Status, Store, Summary, TakenOver,
    WorkerId,
};
