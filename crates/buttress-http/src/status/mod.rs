#![doc = include_str!("../guide/status.md")]

mod act;
mod board;
mod buttons;
mod columns;
mod guard;
mod handles;
mod html;
mod page;
mod row;
#[cfg(test)]
mod tests;

pub use board::StatusBoard;
pub use buttons::{ButtonsFuture, StatusButtons};
pub use page::StatusPage;
