//! Sagas through their public API, in memory, under a paused clock.

mod definitions;
mod operators;
mod owners;
mod semantics;
mod shapes;
mod stores;
mod world;
