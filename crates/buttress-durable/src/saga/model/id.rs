//! The id of a saga.

use buttress::__ids as ids;

ids! {
    /// The id of a saga.
    SagaId;
}
