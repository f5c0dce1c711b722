//! Tests of repositories, commands and decoders on the store in memory.

mod boxed;
mod commands;
mod decoding;
mod failing;
mod faulty;
mod loading;
mod orders;
mod projecting;
mod rebuilding;
mod replaying;
mod repository;
mod snapshots;

use std::error::Error;

use buttress::Json;
use buttress::VirtualClock;

use super::{Log, MemoryStore, Repository};
use orders::Order;

fn store() -> MemoryStore {
    MemoryStore::new(VirtualClock::new().clock())
}

fn repository(store: &MemoryStore) -> Repository<Order, MemoryStore, Json> {
    Repository::new(&Log::new(store.clone()), Json)
}

/// The texts of an error and of its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    texts.join(": ")
}
