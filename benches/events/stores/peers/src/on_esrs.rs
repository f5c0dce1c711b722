//! esrs. Each command loads without a lock: no two writers share a stream.

use std::convert::Infallible;
use std::sync::Arc;

use esrs::manager::AggregateManager;
use esrs::store::postgres::{PgStore, PgStoreBuilder};
use esrs::{Aggregate, AggregateState};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::NOTE;
use crate::bench::{Append, Error, WRITERS, write};

struct Sum;

#[derive(Clone, Serialize, Deserialize)]
struct Added {
    number: u64,
    note: String,
}

impl Aggregate for Sum {
    const NAME: &'static str = "sum";
    type State = u64;
    type Command = u64;
    type Event = Added;
    type Error = Infallible;

    fn handle_command(_: &u64, number: u64) -> Result<Vec<Added>, Infallible> {
        Ok(vec![Added { number, note: "x".repeat(NOTE) }])
    }

    fn apply_event(total: u64, event: Added) -> u64 {
        total + event.number
    }
}

pub async fn measure(url: &str, streams: u64) -> Result<f64, Error> {
    let most = u32::try_from(WRITERS)?;
    let pool =
        PgPoolOptions::new().max_connections(most).min_connections(most).connect(url).await?;
    let store: PgStore<Sum> = PgStoreBuilder::new(pool).try_build().await?;
    let manager = Arc::new(AggregateManager::new(store));
    write(streams, move |Append { stream, version, .. }| {
        let manager = manager.clone();
        async move {
            let id = Uuid::from_u128(u128::from(stream));
            let loaded = manager.load(id).await?;
            let state = loaded.unwrap_or_else(|| AggregateState::with_id(id));
            manager.handle_command(state, version).await??;
            Ok(())
        }
    })
    .await
}
