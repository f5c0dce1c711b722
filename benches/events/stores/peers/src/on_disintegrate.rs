//! disintegrate, without snapshots.

use std::convert::Infallible;
use std::sync::Arc;

use disintegrate::serde::json::Json;
use disintegrate::{Decision, Event, NoSnapshot, StateMutate, StateQuery};
use disintegrate_postgres::{PgEventStore, decision_maker};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;

use crate::NOTE;
use crate::bench::{Append, Error, WRITERS, write};

/// What an error holds if another command was in the way: the SQLSTATE of a serialization failure, and the crate's own.
const CONFLICTS: [&str; 2] = ["40001", "Concurrency"];

#[derive(Debug, Clone, PartialEq, Eq, Event, Serialize, Deserialize)]
#[stream(SumEvent, [Added])]
enum DomainEvent {
    Added {
        #[id]
        sum: String,
        number: u64,
        note: String,
    },
}

#[derive(Default, StateQuery, Clone, Serialize, Deserialize)]
#[state_query(SumEvent)]
struct Sum {
    #[id]
    sum: String,
    total: u64,
}

impl StateMutate for Sum {
    fn mutate(&mut self, event: Self::Event) {
        let SumEvent::Added { number, .. } = event;
        self.total += number;
    }
}

struct Add {
    sum: String,
    number: u64,
}

impl Decision for Add {
    type Event = DomainEvent;
    type StateQuery = Sum;
    type Error = Infallible;

    fn state_query(&self) -> Sum {
        Sum { sum: self.sum.clone(), total: 0 }
    }

    fn process(&self, _: &Sum) -> Result<Vec<DomainEvent>, Infallible> {
        let (sum, number) = (self.sum.clone(), self.number);
        Ok(vec![DomainEvent::Added { sum, number, note: "x".repeat(NOTE) }])
    }
}

pub async fn measure(url: &str, streams: u64) -> Result<f64, Error> {
    let most = u32::try_from(WRITERS)?;
    let pool =
        PgPoolOptions::new().max_connections(most).min_connections(most).connect(url).await?;
    let store = PgEventStore::try_new(pool, Json::<DomainEvent>::default()).await?;
    let decisions = Arc::new(decision_maker(store, NoSnapshot));
    write(streams, move |Append { stream, version, .. }| {
        let decisions = decisions.clone();
        async move {
            // Other commands are in the way of some, although they are for other streams. The caller repeats those.
            loop {
                let made = decisions.make(Add { sum: stream.to_string(), number: version }).await;
                let Err(error) = made else { return Ok(()) };
                let text = format!("{error:?}");
                if !CONFLICTS.iter().any(|conflict| text.contains(conflict)) {
                    return Err(error.into());
                }
            }
        }
    })
    .await
}
