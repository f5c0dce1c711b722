//! [`PoolMonitor`]: reports the connections of a pool to a sampler, and pings its database.

use std::fmt;

use buttress::Name;
use buttress::health::{Finding, Watch};
use buttress::telemetry::{Instrument, Reading, Source, Unit};
use sqlx::{Connection, Database, Pool};

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

/// A source of the connections of a pool, for a [`Sampler`](buttress::telemetry::Sampler).
///
/// The pool may be a store's (`PoolMonitor::new("orders", store.pool())`) or the application's. The
/// connection of a store's writer is not in the store's pool, so the numbers do not include it. Neither do they include
/// the connections for the operations of a `PostgresStore` that opened its own pool.
///
/// It is a health check too, for [`Health::watch`](buttress::health::Health::watch): it takes a
/// connection of the pool and pings the database. It is DOWN if the ping fails. It is DOWN with the text
/// `timeout` if no connection becomes free within the limit of the check.
pub struct PoolMonitor<DB: Database> {
    layer: Name,
    pool: Pool<DB>,
}

impl<DB: Database> PoolMonitor<DB> {
    /// Creates a monitor of `pool`, whose metrics have the label `layer`.
    pub fn new(layer: impl Into<Name>, pool: &Pool<DB>) -> Self {
        Self { layer: layer.into(), pool: pool.clone() }
    }
}

impl<DB: Database> Source for PoolMonitor<DB> {
    fn read(&self, reading: &mut Reading) {
        let layer = self.layer.as_str();
        // Read one after the other, so a connection can become idle before it counts as open.
        let (open, idle) = (u64::from(self.pool.size()), self.pool.num_idle() as u64);
        reading.add_count(&CONNECTIONS, [layer, "used"], open.saturating_sub(idle));
        reading.add_count(&CONNECTIONS, [layer, "idle"], idle.min(open));
        let limit = f64::from(self.pool.options().get_max_connections());
        reading.add(&LIMIT, [layer], limit);
    }
}

impl<DB: Database> Watch for PoolMonitor<DB> {
    async fn look(&self) -> Finding {
        let ping = async { self.pool.acquire().await?.ping().await };
        ping.await.into()
    }
}

impl<DB: Database> fmt::Debug for PoolMonitor<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolMonitor").field("layer", &self.layer).finish_non_exhaustive()
    }
}
