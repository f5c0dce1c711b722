//! Sagas through their public API, in memory, under a paused clock.

mod adoption;
mod definitions;
mod doubt;
mod mishaps;
mod operators;
mod outages;
mod owners;
mod panics;
mod reports;
mod semantics;
mod shapes;
mod stores;
mod texts;
mod world;
