//! The page of metrics, events and log lines matches the code. Alert rules and dashboard ask for metrics that
//! exist.

mod alerts;
mod coverage;
mod durations;
mod logs;
mod page;
mod promql;
mod recorder;
