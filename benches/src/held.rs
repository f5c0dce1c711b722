//! The names of measurements of the program `memory` that targets use.

/// The reference for the sizes of tasks: a task without any layer.
pub const TASKS: &str = "100 000 tasks that wait, with 128 bytes of state: bytes each";
pub const LIMITED: &str = "100 000 calls under a time limit, with 128 bytes of state: bytes each";
pub const SIX: &str = "100 000 calls through six layers, with 128 bytes of state: bytes each";
pub const SAGAS: &str =
    "100 000 sagas of five steps in memory: bytes held after them, beyond those before";
pub const FEW: &str = "time window, bytes after 100 calls";
pub const MANY: &str = "time window, bytes after 10 000 calls";

const _: () = assert!(crate::workload::STATE == 128, "the names say it");
