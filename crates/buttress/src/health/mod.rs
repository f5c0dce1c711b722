#![doc = include_str!("../guide/health.md")]

mod check;
mod config;
mod finding;
mod handle;
mod reading;
mod report;
mod run;
mod shared;
mod state;
mod watched;

pub use check::{Check, Watch};
pub use config::Config;
pub use finding::{Finding, Group, Importance, Status};
pub use handle::{Health, Running};
pub use report::{CheckReport, Report};
