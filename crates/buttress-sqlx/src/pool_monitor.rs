//! [`PoolMonitor`]: the connections of a pool for a sampler.

use std::fmt;

use buttress::Name;
use buttress::telemetry::{Instrument, Reading, Source, Unit};
use sqlx::{Database, Pool};

static CONNECTIONS: Instrument = Instrument::gauge(
    "buttress.pool.connections",
    Unit::Count,
    &["layer", "state"],
    "Connections of a pool that are open, by their state: used or idle.",
);

static LIMIT: Instrument = Instrument::gauge(
    "buttress.pool.limit",
    Unit::Count,
    &["layer"],
    "The most connections that a pool opens.",
);

/// Every metric of this crate.
pub static INSTRUMENTS: &[&Instrument] = &[&CONNECTIONS, &LIMIT];

/// The connections of a pool, for a [`Sampler`](buttress::telemetry::Sampler): of a store
/// (`PoolMonitor::new("orders", store.pool())`) or of the application.
///
/// The connection of a store's writer is not in the store's pool, and not among the numbers.
pub struct PoolMonitor<DB: Database> {
    layer: Name,
    pool: Pool<DB>,
}

impl<DB: Database> PoolMonitor<DB> {
    /// A monitor of `pool`, whose numbers have the label `layer`.
    pub fn new(layer: impl Into<Name>, pool: &Pool<DB>) -> Self {
        Self { layer: layer.into(), pool: pool.clone() }
    }
}

impl<DB: Database> Source for PoolMonitor<DB> {
    fn read(&self, reading: &mut Reading) {
        let layer = self.layer.as_str();
        // Read one after the other, so that a connection can be idle before it is among the open ones.
        let (open, idle) = (u64::from(self.pool.size()), self.pool.num_idle() as u64);
        reading.add_count(&CONNECTIONS, [layer, "used"], open.saturating_sub(idle));
        reading.add_count(&CONNECTIONS, [layer, "idle"], idle.min(open));
        let limit = f64::from(self.pool.options().get_max_connections());
        reading.add(&LIMIT, [layer], limit);
    }
}

impl<DB: Database> fmt::Debug for PoolMonitor<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolMonitor").field("layer", &self.layer).finish_non_exhaustive()
    }
}
