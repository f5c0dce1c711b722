use std::time::Duration;

use buttress::Clock;
use buttress_durable::saga::{Config, Definition, Executor, MemoryStore};

fn main() {
    let mut saga = Definition::<u32>::builder("order", 1);
    saga.step("cool off").wait(|_order, ()| Duration::from_secs(60));
    let bytes = MemoryStore::of_bytes(Clock::default());
    let _orders = Executor::new(saga.build().unwrap(), bytes, Config::new());
}
