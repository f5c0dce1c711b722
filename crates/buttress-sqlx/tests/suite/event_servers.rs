//! Pages of events from two servers: behind a load balancer or after a failover, one statement of a page may reach a
//! replica that lags, and the next statement another server.

use std::sync::{Arc, OnceLock};

use buttress_durable::event_store::{Filter, Page, Position, Store};
use buttress_sqlx::{PostgresConfig, PostgresStore};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::db::{fresh_schema, postgres_url};
use crate::event_order::{place, positions};

const SCHEMA: &str = "s";

/// A pool whose every connection is used once. The connection after the first one goes to `second`.
struct Balanced {
    pool: PgPool,
    first: PgConnectOptions,
}

impl Balanced {
    fn new(first: &PgConnectOptions, second: &PgConnectOptions) -> Self {
        let own: Arc<OnceLock<PgPool>> = Arc::default();
        let (this, second) = (own.clone(), second.clone());
        let options = PgPoolOptions::new()
            .max_connections(1)
            .after_connect(move |_, _| {
                if let Some(pool) = this.get() {
                    pool.set_connect_options(second.clone());
                }
                Box::pin(async { Ok(()) })
            })
            .after_release(|_, _| Box::pin(async { Ok(false) }));
        let pool = options.connect_lazy_with(first.clone());
        own.set(pool.clone()).unwrap();
        Self { pool, first: first.clone() }
    }

    /// Reads a page. Its first statement goes to the first server, and the next statement to the second one.
    async fn read(&self, store: &PostgresStore, after: u64, limit: usize) -> Page {
        self.pool.set_connect_options(self.first.clone());
        store.read_all(Position::new(after), &Filter::all(), limit).await.unwrap()
    }
}

async fn execute(url: &str, sql: String) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn read_over_both(leader: &PgConnectOptions, lagging: &PgConnectOptions) {
    for (first, second) in [(leader, lagging), (lagging, leader)] {
        let balanced = Balanced::new(first, second);
        let config = PostgresConfig::with_pool(balanced.pool.clone()).schema(SCHEMA);
        let store = PostgresStore::open(config).await.unwrap();
        for limit in [3, 5, 7, 10, 100] {
            let page = balanced.read(&store, 0, limit).await;
            let found: Vec<u64> = page.events.iter().map(|one| one.position.get()).collect();
            let through = page.through.get();
            // Otherwise a reader would miss the events between.
            assert_eq!(found, (1..=through).collect::<Vec<_>>(), "limit {limit}");
            assert!(through >= 3 && !page.is_end, "limit {limit}: {page:?}");
        }
        // Past the end of the replica that lags.
        let page = balanced.read(&store, 7, 100).await;
        let found = page.events.iter().map(|one| one.position.get());
        assert!(found.eq(8..=page.through.get()), "{page:?}");
        assert!(!page.is_end, "{page:?}");
        balanced.pool.close().await;
    }
}

#[tokio::test]
async fn events_6_5_a_page_over_a_replica_that_lags_misses_no_event() {
    let Some(url) = postgres_url("events_6_5_lagging").await else { return };
    let (leader, lagging) = (fresh_schema(), fresh_schema());
    let server: PgConnectOptions = url.parse().unwrap();
    let of = |name: &str| server.clone().database(name);
    execute(&url, format!("CREATE DATABASE {leader}")).await;
    let open = async || {
        let pool = PgPoolOptions::new().max_connections(2).connect_lazy_with(of(&leader));
        let config = PostgresConfig::with_pool(pool.clone()).schema(SCHEMA);
        (PostgresStore::open(config).await.unwrap(), pool)
    };
    let (store, pool) = open().await;
    place(&store, 1..=5).await;
    assert_eq!(positions(&store).await.len(), 5);
    store.close().await;
    pool.close().await;
    // The copy stays where it is: a replica that has not received the rest.
    execute(&url, format!("CREATE DATABASE {lagging} TEMPLATE {leader}")).await;
    let (store, pool) = open().await;
    place(&store, 6..=10).await;
    assert_eq!(positions(&store).await.len(), 10);
    store.close().await;
    pool.close().await;

    let (first, second) = (of(&leader), of(&lagging));
    let outcome = tokio::spawn(async move { read_over_both(&first, &second).await }).await;
    for name in [leader, lagging] {
        execute(&url, format!("DROP DATABASE {name} WITH (FORCE)")).await;
    }
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
}
