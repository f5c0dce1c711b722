//! `--serve`: the same work without kills, until Ctrl-C, with a status page and with `/metrics` for Prometheus.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use buttress::telemetry::Sampler;
use buttress::{Clock, Rng};
use buttress_durable::outbox::{self, CountedInbox};
use buttress_durable::saga;
use buttress_http::status::{StatusBoard, StatusPage};
use buttress_sqlx::{PoolMonitor, PostgresStore, SqliteStore};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::sync::watch;
use tower::BoxError;

use crate::database::{Database, Place};
use crate::{customers, http, ledger, services, worker};

/// The time between two orders.
const GAP: Duration = Duration::from_millis(250);
/// No worker is killed here, so that a lease may be long.
const LEASE: Duration = Duration::from_secs(15);
/// How often the numbers of the store are read.
const REFRESH: Duration = Duration::from_secs(2);
/// In seconds. Without buckets the exporter writes summaries, which cannot be aggregated.
const BUCKETS: [f64; 10] = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 600.0];

/// Runs services, worker and customers in this process until Ctrl-C.
pub(crate) async fn run<D: Database + HasPool>(place: &Place) -> Result<(), BoxError> {
    // Before the parts are made, so that each registers its counters.
    let exporter = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
    let (rng, sampler) = (Rng::seeded(7), Sampler::new());
    let database = D::open_at(place).await?;
    services::create_tables(&database).await?;
    ledger::create_tables(&database).await?;

    let inbox = CountedInbox::new("ledger", database.clone());
    sampler.watch(inbox.clone());
    let ledger = ledger::start(inbox, &rng).await?;
    let barrier = saga::CountedBarrier::new("services", database.clone());
    sampler.watch(barrier.clone());
    let addresses = services::start(&barrier, ledger, &rng).await?;

    // The numbers of the store, which every process shares.
    let stored = Sampler::new();
    for sampler in [&sampler, &stored] {
        let sagas = saga::Monitor::new("orders", database.clone(), Clock::default());
        sampler.watch(sagas.definition("order"));
        sampler.watch(outbox::Monitor::new("news", database.clone()));
        database.watch_pool(sampler);
    }

    let (announce, accepting) = watch::channel(None);
    let (parts, made) = tokio::sync::oneshot::channel();
    let customers = customers::come(i64::MAX, GAP, accepting, &rng);
    let pages = async {
        let worker::Parts { orders, relay } = made.await?;
        sampler.watch(orders.clone());
        sampler.watch(relay.clone());
        let status = StatusBoard::new("Order fulfilment")
            .numbers("Sagas", "orders", move || orders.stats())
            .numbers("Relays", "news", move || relay.stats())
            .sampler(stored.clone());
        let (scraped, numbers) = (sampler.clone(), exporter.clone());
        let scrape = move || {
            scraped.record();
            numbers.run_upkeep();
            ready(numbers.render())
        };
        let router = Router::new()
            .route("/metrics", get(scrape))
            .nest_service("/status", StatusPage::new(Arc::new(status)));
        let address = http::serve(router).await?;
        println!("Sagas and backlog: http://{address}/status");
        println!("For Prometheus:    http://{address}/metrics");
        println!("Orders come until Ctrl-C.");
        tokio::join!(
            sampler.refresh_every(REFRESH, Clock::default()),
            stored.refresh_every(REFRESH, Clock::default()),
        );
        Ok::<(), BoxError>(())
    };
    let ready = |address, made| {
        announce.send_replace(Some(address));
        // The receiver lives as long as the pages.
        let _sent = parts.send(made);
    };
    let stop = async {
        // Without a handler of the signal the process ends by it.
        let _ended = tokio::signal::ctrl_c().await;
    };
    tokio::select! {
        worked = worker::work(database, &addresses, LEASE, ready, stop) => worked,
        served = pages => served,
        _orders = customers => Ok(()),
    }
}

/// A store whose pool can be watched.
pub(crate) trait HasPool {
    /// Gives the connections of the pool to `sampler`.
    fn watch_pool(&self, sampler: &Sampler);
}

impl HasPool for SqliteStore {
    fn watch_pool(&self, sampler: &Sampler) {
        sampler.watch(PoolMonitor::new("database", self.pool()));
    }
}

impl HasPool for PostgresStore {
    fn watch_pool(&self, sampler: &Sampler) {
        sampler.watch(PoolMonitor::new("database", self.pool()));
    }
}
