//! The list of orders: a read model that a projection keeps.

use std::time::Duration;

use buttress::Json;
use buttress_durable::event_store::{Batch, Config, Decoder, Log, Projection, ProjectionHandle};
use buttress_sqlx::{SqliteStore, SqliteTransaction};
use sqlx::AssertSqlSafe;
use tower::{BoxError, Service, service_fn};

use crate::aggregate::OrderEvent;
use crate::worker::LEASE;

/// The name of the projection.
pub(crate) const LIST: &str = "order-list";

/// The table of the list, and the table that a rebuild writes.
#[derive(Clone, Copy)]
enum Table {
    List,
    Rebuilt,
}

impl Table {
    const fn name(self) -> &'static str {
        match self {
            Self::List => "order_list",
            Self::Rebuilt => "order_list_rebuilt",
        }
    }

    fn sql(self, sql: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(sql.replace("{table}", self.name()))
    }

    /// Creates the table. Without a unique number: an event that was handled twice is visible.
    async fn create(self, store: &SqliteStore) -> Result<(), BoxError> {
        let columns = "number INTEGER, pieces INTEGER, cents INTEGER, is_submitted INTEGER";
        let sql = format!(
            "CREATE TABLE {{table}} ({columns}); CREATE INDEX by_number_in_{{table}} ON {{table}} (number)"
        );
        sqlx::raw_sql(self.sql(&sql)).execute(store.pool()).await?;
        Ok(())
    }
}

pub(crate) async fn create(store: &SqliteStore) -> Result<(), BoxError> {
    Table::List.create(store).await
}

/// Starts the projection, which many processes may do: one of them has the lease.
pub(crate) fn follow(store: &SqliteStore) -> Result<ProjectionHandle, BoxError> {
    let log = Log::new(store.clone());
    let config = Config::new().lease(LEASE).poll(Duration::from_millis(20)).batch(50);
    Ok(Projection::new(LIST, &log, handler(Table::List), config)?.in_transaction().spawn())
}

/// Makes the mistake of an operator: a part of the list is wrong afterwards, and a part is gone.
pub(crate) async fn damage(store: &SqliteStore) -> Result<u64, BoxError> {
    let mut tx = store.begin().await?;
    let wrong = "UPDATE order_list SET cents = cents + 1 WHERE number % 3 = 0";
    let mut rows = sqlx::query(wrong).execute(&mut **tx).await?.rows_affected();
    let gone = "DELETE FROM order_list WHERE number % 3 = 1";
    rows += sqlx::query(gone).execute(&mut **tx).await?.rows_affected();
    tx.commit().await?;
    Ok(rows)
}

/// Builds the list from all events beside the list that is in use, and puts it in its place. Returns the position up
/// to which it was built.
pub(crate) async fn rebuild(store: &SqliteStore) -> Result<u64, BoxError> {
    Table::Rebuilt.create(store).await?;
    let log = Log::new(store.clone());
    let config = Config::new().batch(50);
    let handler = handler(Table::Rebuilt);
    let rebuilt = Projection::new("order-list-rebuilt", &log, handler, config)?.in_transaction();
    let at = rebuilt
        .rebuild(LIST, |mut tx: SqliteTransaction| async move {
            let swap = "DROP TABLE order_list; ALTER TABLE order_list_rebuilt RENAME TO order_list";
            sqlx::raw_sql(swap).execute(&mut **tx).await?;
            Ok(tx)
        })
        .await?;
    Ok(at.get())
}

type ListBatch = Batch<SqliteTransaction>;

/// Writes the events of orders to a table, in the transaction that moves the checkpoint.
fn handler(
    table: Table,
) -> impl Service<ListBatch, Response = ListBatch, Error = BoxError, Future: Send> + Clone + Send + 'static
{
    let decoder = Decoder::new(Json);
    service_fn(move |mut batch: ListBatch| {
        let decoder = decoder.clone();
        async move {
            let (tx, events) = batch.parts();
            for ordered in events {
                let number: i64 = ordered.event.stream.id().parse()?;
                let event = decoder.decode_at::<OrderEvent>(ordered)?;
                let sql = match *event {
                    OrderEvent::Created { .. } => "INSERT INTO {table} VALUES (?1, 0, 0, 0)",
                    OrderEvent::ItemAdded(_) => {
                        "UPDATE {table} SET pieces = pieces + ?2, cents = cents + ?2 * ?3 WHERE number = ?1"
                    }
                    OrderEvent::Submitted => {
                        "UPDATE {table} SET is_submitted = is_submitted + 1 WHERE number = ?1"
                    }
                };
                let mut query = sqlx::query(table.sql(sql)).bind(number);
                if let OrderEvent::ItemAdded(item) = *event {
                    query = query.bind(item.pieces).bind(item.cents);
                }
                query.execute(&mut ***tx).await?;
            }
            Ok(batch)
        }
    })
}
