#![doc = include_str!("../guide/saga.md")]

mod barrier;
mod boxed;
mod config;
mod counted_barrier;
mod define;
mod error;
mod history;
mod memory;
mod model;
mod monitor;
mod reading;
mod reasons;
mod report;
mod run;
mod store;
#[cfg(test)]
mod tests;

pub use barrier::{Barrier, Passage};
pub use boxed::BoxStore;
pub use config::Config;
pub use counted_barrier::CountedBarrier;
pub use define::builder::{Builder, StepBuilder};
pub use define::definition::Definition;
pub use define::needs::{Needs, Outputs, StepHandle, StepRef};
pub use define::step::ActionBuilder;
pub use error::SagaError;
pub use history::StepHistory;
pub use memory::MemoryStore;
pub use model::entry::{Beginning, Entry, EntryKind, Status};
pub use model::invalid::InvalidDefinition;
pub use model::plan::{Kind, OnCrash};
pub use monitor::Monitor;
pub use report::{Report, Stats, StepStatus, Tree, TreeStep};
pub use run::call::{Call, Direction, Leaf, LeafFuture, StepKey};
pub use run::execution::Execution;
pub use run::executor::Executor;
pub use run::migration::{MigratedLog, Migration, MigrationError, NeedsMigration};
pub use run::operators::Resolution;
pub use run::recovery::Recovery;
pub use run::searching::{Found, Search};
pub use run::signalling::{Signalled, SignalledIn};
pub use run::transactional::StartedIn;
pub use run::versions::InvalidVersion;
pub use store::{
    Append, Appended, CreateIn, LARGEST_SIGNAL, Moved, NewLog, NewSaga, NewSignal, OVERDUE, Page,
    Record, SagaId, Signal, SignalAnswer, SignalId, SignalIn, Store, Summary, TakeOver, TakenOver,
    WorkerId,
};
