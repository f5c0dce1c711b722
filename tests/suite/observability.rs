//! The page of metrics, events and log lines says what the code does.

mod coverage;
mod logs;
mod page;
mod recorder;
