//! The outbox's relay through its public API, in memory, under a paused clock.

mod crashes;
mod delivery;
mod drops;
mod failures;
mod faulty;
mod outages;
mod owning;
mod sharing;
mod world;
