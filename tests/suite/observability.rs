//! The page of metrics, events and log lines matches the code.

mod coverage;
mod logs;
mod page;
mod recorder;
