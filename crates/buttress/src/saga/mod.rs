//! Sagas.

mod store;

pub use store::{
    Append, Appended, Entry, EntryKind, NewSaga, Record, SagaId, Status, Store, Summary, TakenOver,
    WorkerId,
};
