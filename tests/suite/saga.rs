//! Sagas through their public API, in memory, under a paused clock.

mod adoption;
mod attaching;
mod definitions;
mod doubt;
mod hangs;
mod history;
mod mishaps;
mod operators;
mod origin;
mod outages;
mod owners;
mod panics;
mod recovering;
mod reports;
mod retention;
mod retries;
mod semantics;
mod shapes;
mod stores;
mod texts;
mod transactional;
mod world;
