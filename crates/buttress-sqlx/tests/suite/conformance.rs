//! The suites that every store must pass.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use buttress::VirtualClock;
use buttress_sim::conformance::{self, Harness, Transactions};
use buttress_sqlx::{SqliteConfig, SqliteStore, SqliteTransaction, Synchronous};
use sqlx::Transaction;
use sqlx::sqlite::{Sqlite, SqlitePoolOptions};

use crate::db::{fresh_path, remove};

/// Databases of SQLite.
struct Databases {
    in_memory: bool,
    time: VirtualClock,
    paths: Mutex<Vec<PathBuf>>,
    /// A suite leaves its stores open until it ends, because a database in memory ends with them.
    kept: Mutex<Vec<SqliteStore>>,
}

impl Databases {
    fn new(in_memory: bool) -> Self {
        let time = VirtualClock::new();
        Self { in_memory, time, paths: Mutex::default(), kept: Mutex::default() }
    }
}

impl Harness<SqliteStore> for Databases {
    async fn fresh(&self) -> SqliteStore {
        let config = if self.in_memory {
            SqliteConfig::in_memory()
        } else {
            let path = fresh_path();
            self.paths.lock().unwrap().push(path.clone());
            // `Normal` changes no result of the suites.
            SqliteConfig::new(path).synchronous(Synchronous::Normal)
        };
        let store = SqliteStore::open(config.clock(self.time.clock())).await.unwrap();
        self.kept.lock().unwrap().push(store.clone());
        store
    }

    async fn reopen(&self, store: &SqliteStore) -> SqliteStore {
        SqliteStore::open(store.config().clone()).await.unwrap()
    }

    async fn advance(&self, by: Duration) {
        self.time.advance(by);
    }
}

impl Transactions<SqliteStore, SqliteTransaction> for Databases {
    async fn begin(&self, store: &SqliteStore) -> SqliteTransaction {
        store.begin().await.unwrap()
    }

    async fn commit(&self, tx: SqliteTransaction) {
        tx.commit().await.unwrap();
    }

    async fn roll_back(&self, tx: SqliteTransaction) {
        tx.rollback().await.unwrap();
    }
}

/// A pool of the user's, without settings for the store.
impl Transactions<SqliteStore, Transaction<'static, Sqlite>> for Databases {
    async fn begin(&self, store: &SqliteStore) -> Transaction<'static, Sqlite> {
        let pool = SqlitePoolOptions::new().connect_lazy_with(store.config().connect_options());
        pool.begin_with("BEGIN IMMEDIATE").await.unwrap()
    }

    async fn commit(&self, tx: Transaction<'static, Sqlite>) {
        tx.commit().await.unwrap();
    }

    async fn roll_back(&self, tx: Transaction<'static, Sqlite>) {
        tx.rollback().await.unwrap();
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        for path in self.paths.lock().unwrap().drain(..) {
            remove(&path);
        }
    }
}

mod on_sqlite {
    use super::*;

    type Own = SqliteTransaction;
    type Users = Transaction<'static, Sqlite>;

    async fn sagas(databases: Databases) {
        conformance::saga::all(&databases).await;
        conformance::saga::in_transactions::<_, Own, _>(&databases).await;
        conformance::saga::in_transactions::<_, Users, _>(&databases).await;
        conformance::saga::signals_in_transactions::<_, Own, _>(&databases).await;
        conformance::saga::signals_in_transactions::<_, Users, _>(&databases).await;
    }

    async fn idempotency(databases: Databases) {
        conformance::idempotency::all(&databases).await;
        conformance::idempotency::transactional::<_, Own, _>(&databases).await;
        conformance::idempotency::transactional::<_, Users, _>(&databases).await;
    }

    async fn outbox(databases: Databases) {
        conformance::outbox::all::<_, Own, _>(&databases).await;
    }

    async fn outbox_with_a_pool_of_the_users(databases: Databases) {
        conformance::outbox::all::<_, Users, _>(&databases).await;
    }

    async fn inbox(databases: Databases) {
        conformance::inbox::all::<_, Own, _>(&databases).await;
        conformance::inbox::all::<_, Users, _>(&databases).await;
    }

    async fn dead_letters(databases: Databases) {
        conformance::dead_letters::all(&databases).await;
    }

    async fn event_store(databases: Databases) {
        conformance::event_store::all::<_, Own, _>(&databases).await;
    }

    async fn event_store_with_a_pool_of_the_users(databases: Databases) {
        conformance::event_store::all::<_, Users, _>(&databases).await;
    }

    async fn barrier(databases: Databases) {
        conformance::barrier::all::<_, Own, _>(&databases).await;
        conformance::barrier::all::<_, Users, _>(&databases).await;
        conformance::barrier::retention::<_, Own, _>(&databases).await;
        conformance::barrier::retention::<_, Users, _>(&databases).await;
    }

    macro_rules! each_place {
        ($($suite:ident)+) => {$(
            mod $suite {
                use super::*;

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn in_a_file() {
                    super::$suite(Databases::new(false)).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn in_memory() {
                    super::$suite(Databases::new(true)).await;
                }
            }
        )+};
    }
    each_place!(
        sagas idempotency outbox outbox_with_a_pool_of_the_users inbox dead_letters barrier
        event_store event_store_with_a_pool_of_the_users
    );
}

#[cfg(feature = "postgres")]
mod on_postgres {
    use std::rc::Rc;

    use buttress_sqlx::{PostgresConfig, PostgresStore};
    use sqlx::postgres::{PgPool, PgPoolOptions, Postgres};

    use super::*;
    use crate::db::{drop_schema, fresh_schema, postgres_url};
    use crate::pooler::Pooler;
    use crate::service_role::ServiceRole;

    /// The way of a store to the database.
    #[derive(Clone, Copy)]
    enum Way {
        Direct,
        UsersPool,
        Pooler,
        /// As a role that has only the rights of the guide, on tables made from the published DDL.
        ServiceRole,
    }

    /// Schemas of PostgreSQL.
    struct Schemas {
        url: String,
        users: Option<PgPool>,
        pooler: Option<Pooler>,
        role: Option<ServiceRole>,
        time: VirtualClock,
        pool: PgPool,
        names: Mutex<Vec<String>>,
    }

    impl Schemas {
        async fn new(test: &str, way: Way) -> Option<Self> {
            let url = postgres_url(test).await?;
            let pool = PgPoolOptions::new().max_connections(6).connect_lazy(&url).unwrap();
            let (mut users, mut pooler, mut role) = (None, None, None);
            match way {
                Way::Direct => {}
                Way::UsersPool => users = Some(PgPool::connect_lazy(&url).unwrap()),
                Way::Pooler => pooler = Some(Pooler::start(test, &url).await?),
                Way::ServiceRole => role = Some(ServiceRole::create(&pool).await),
            }
            let (time, names) = (VirtualClock::new(), Mutex::default());
            Some(Self { url, users, pooler, role, time, pool, names })
        }

        fn config(&self) -> PostgresConfig {
            match (&self.users, &self.pooler) {
                (Some(pool), _) => PostgresConfig::with_pool(pool.clone()),
                (_, Some(pooler)) => PostgresConfig::with_options(pooler.options(&self.url))
                    .transaction_pooling(true),
                _ => PostgresConfig::new(&self.url),
            }
        }

        /// Runs a suite, and drops the schemas after any result.
        async fn run<F: Future<Output = ()> + 'static>(self, suite: impl FnOnce(Rc<Self>) -> F) {
            let schemas = Rc::new(self);
            let local = tokio::task::LocalSet::new();
            let running = local.spawn_local(suite(schemas.clone()));
            let outcome = local.run_until(running).await;
            let names = std::mem::take(&mut *schemas.names.lock().unwrap());
            for schema in names {
                drop_schema(&schemas.pool, &schema).await;
            }
            if let Some(role) = &schemas.role {
                role.drop(&schemas.pool).await;
            }
            if let Err(error) = outcome {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }

    impl Harness<PostgresStore> for Schemas {
        async fn fresh(&self) -> PostgresStore {
            let schema = fresh_schema();
            self.names.lock().unwrap().push(schema.clone());
            let mut config = self.config().schema(&schema).connections(2);
            if let Some(role) = &self.role {
                config = role.prepare(&self.pool, &self.url, &schema).await.connections(2);
            }
            PostgresStore::open(config.clock(self.time.clock())).await.unwrap()
        }

        async fn reopen(&self, store: &PostgresStore) -> PostgresStore {
            PostgresStore::open(store.config().clone()).await.unwrap()
        }

        async fn advance(&self, by: Duration) {
            self.time.advance(by);
        }
    }

    impl Transactions<PostgresStore, Transaction<'static, Postgres>> for Schemas {
        async fn begin(&self, _store: &PostgresStore) -> Transaction<'static, Postgres> {
            self.pool.begin().await.unwrap()
        }

        async fn commit(&self, tx: Transaction<'static, Postgres>) {
            tx.commit().await.unwrap();
        }

        async fn roll_back(&self, tx: Transaction<'static, Postgres>) {
            tx.rollback().await.unwrap();
        }
    }

    async fn sagas(schemas: Rc<Schemas>) {
        conformance::saga::all(&*schemas).await;
        conformance::saga::in_transactions(&*schemas).await;
        conformance::saga::signals_in_transactions(&*schemas).await;
    }

    async fn idempotency(schemas: Rc<Schemas>) {
        conformance::idempotency::all(&*schemas).await;
        conformance::idempotency::transactional(&*schemas).await;
    }

    async fn outbox(schemas: Rc<Schemas>) {
        conformance::outbox::all(&*schemas).await;
    }

    async fn inbox(schemas: Rc<Schemas>) {
        conformance::inbox::all(&*schemas).await;
    }

    async fn dead_letters(schemas: Rc<Schemas>) {
        conformance::dead_letters::all(&*schemas).await;
    }

    async fn event_store(schemas: Rc<Schemas>) {
        conformance::event_store::all(&*schemas).await;
    }

    async fn events_of_overlapping_transactions(schemas: Rc<Schemas>) {
        conformance::event_store::overlapping(&*schemas).await;
    }

    async fn barrier(schemas: Rc<Schemas>) {
        conformance::barrier::all(&*schemas).await;
        conformance::barrier::retention(&*schemas).await;
    }

    macro_rules! each_way {
        ($way:ident as $module:ident: $($suite:ident)+) => {
            mod $module {
                use super::*;
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $suite() {
                        let test = concat!("conformance of ", stringify!($suite));
                        let Some(schemas) = Schemas::new(test, Way::$way).await else { return };
                        schemas.run(super::$suite).await;
                    }
                )+
            }
        };
    }
    each_way!(Direct as direct: sagas idempotency outbox inbox dead_letters barrier
        event_store events_of_overlapping_transactions);
    each_way!(UsersPool as on_a_users_pool: sagas idempotency outbox inbox dead_letters barrier
        event_store events_of_overlapping_transactions);
    each_way!(Pooler as behind_a_pooler: sagas idempotency outbox inbox dead_letters barrier
        event_store events_of_overlapping_transactions);
    each_way!(ServiceRole as as_the_role_of_a_service: sagas idempotency outbox inbox dead_letters barrier
        event_store events_of_overlapping_transactions);
}
