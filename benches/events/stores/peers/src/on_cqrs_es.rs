//! cqrs-es with postgres-es.

use std::convert::Infallible;
use std::sync::Arc;

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;

use crate::NOTE;
use crate::bench::{Append, Error, WRITERS, write};

const TABLES: &str = "CREATE TABLE IF NOT EXISTS events (aggregate_type text NOT NULL, aggregate_id text NOT NULL, \
     sequence bigint CHECK (sequence >= 0) NOT NULL, event_type text NOT NULL, event_version text NOT NULL, \
     payload json NOT NULL, metadata json NOT NULL, PRIMARY KEY (aggregate_type, aggregate_id, sequence))";

#[derive(Default, Serialize, Deserialize)]
struct Sum {
    total: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Added {
    number: u64,
    note: String,
}

impl DomainEvent for Added {
    fn event_type(&self) -> String {
        "sum.added".to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl Aggregate for Sum {
    const TYPE: &'static str = "sum";
    type Command = u64;
    type Event = Added;
    type Error = Infallible;
    type Services = ();

    async fn handle(
        &mut self,
        number: u64,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), Infallible> {
        sink.write(Added { number, note: "x".repeat(NOTE) }, self).await;
        Ok(())
    }

    fn apply(&mut self, event: Added) {
        self.total += event.number;
    }
}

pub async fn measure(url: &str, streams: u64) -> Result<f64, Error> {
    let most = u32::try_from(WRITERS)?;
    let pool =
        PgPoolOptions::new().max_connections(most).min_connections(most).connect(url).await?;
    sqlx::query(TABLES).execute(&pool).await?;
    let cqrs = Arc::new(postgres_es::postgres_cqrs::<Sum>(pool, Vec::new(), ()));
    write(streams, move |Append { stream, version, .. }| {
        let cqrs = cqrs.clone();
        async move {
            cqrs.execute(&stream.to_string(), version).await?;
            Ok(())
        }
    })
    .await
}
