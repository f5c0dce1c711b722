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

/// Files of SQLite. With `NORMAL`, which changes no result of the suites.
#[derive(Default)]
struct Files {
    time: VirtualClock,
    paths: Mutex<Vec<PathBuf>>,
}

impl Harness<SqliteStore> for Files {
    async fn fresh(&self) -> SqliteStore {
        let path = fresh_path();
        self.paths.lock().unwrap().push(path.clone());
        let config = SqliteConfig::new(path).clock(self.time.clock());
        SqliteStore::open(config.synchronous(Synchronous::Normal)).await.unwrap()
    }

    async fn reopen(&self, store: &SqliteStore) -> SqliteStore {
        SqliteStore::open(store.config().clone()).await.unwrap()
    }

    async fn advance(&self, by: Duration) {
        self.time.advance(by);
    }
}

impl Transactions<SqliteStore, SqliteTransaction> for Files {
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
impl Transactions<SqliteStore, Transaction<'static, Sqlite>> for Files {
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

impl Drop for Files {
    fn drop(&mut self) {
        for path in self.paths.lock().unwrap().drain(..) {
            remove(&path);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sagas_on_sqlite() {
    conformance::saga::all(&Files::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idempotency_on_sqlite() {
    conformance::idempotency::all(&Files::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idempotency_in_transactions_on_sqlite() {
    let files = Files::default();
    conformance::idempotency::transactional::<_, SqliteTransaction, _>(&files).await;
    conformance::idempotency::transactional::<_, Transaction<'static, Sqlite>, _>(&files).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outbox_on_sqlite() {
    let files = Files::default();
    conformance::outbox::all::<_, SqliteTransaction, _>(&files).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outbox_with_a_pool_of_the_users_on_sqlite() {
    let files = Files::default();
    conformance::outbox::all::<_, Transaction<'static, Sqlite>, _>(&files).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inbox_on_sqlite() {
    let files = Files::default();
    conformance::inbox::all::<_, SqliteTransaction, _>(&files).await;
    conformance::inbox::all::<_, Transaction<'static, Sqlite>, _>(&files).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn barrier_on_sqlite() {
    let files = Files::default();
    conformance::barrier::all::<_, SqliteTransaction, _>(&files).await;
    conformance::barrier::all::<_, Transaction<'static, Sqlite>, _>(&files).await;
    conformance::barrier::retention::<_, SqliteTransaction, _>(&files).await;
    conformance::barrier::retention::<_, Transaction<'static, Sqlite>, _>(&files).await;
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
            let pool = PgPoolOptions::new().max_connections(2).connect_lazy(&url).unwrap();
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

    macro_rules! each_suite {
        ($way:ident as $module:ident) => {
            mod $module {
                use super::*;

                const WAY: Way = Way::$way;

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn sagas() {
                    let Some(schemas) = Schemas::new("conformance of sagas", WAY).await else {
                        return;
                    };
                    schemas
                        .run(async |schemas: Rc<Schemas>| {
                            conformance::saga::all(&*schemas).await;
                        })
                        .await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn idempotency() {
                    let Some(schemas) = Schemas::new("conformance of idempotency", WAY).await
                    else {
                        return;
                    };
                    schemas
                        .run(async |schemas: Rc<Schemas>| {
                            conformance::idempotency::all(&*schemas).await;
                            conformance::idempotency::transactional(&*schemas).await;
                        })
                        .await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn outbox() {
                    let Some(schemas) = Schemas::new("conformance of the outbox", WAY).await else {
                        return;
                    };
                    schemas
                        .run(async |schemas: Rc<Schemas>| {
                            conformance::outbox::all(&*schemas).await;
                        })
                        .await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn inbox() {
                    let Some(schemas) = Schemas::new("conformance of the inbox", WAY).await else {
                        return;
                    };
                    schemas
                        .run(async |schemas: Rc<Schemas>| {
                            conformance::inbox::all(&*schemas).await;
                        })
                        .await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn barrier() {
                    let Some(schemas) = Schemas::new("conformance of the barrier", WAY).await
                    else {
                        return;
                    };
                    schemas
                        .run(async |schemas: Rc<Schemas>| {
                            conformance::barrier::all(&*schemas).await;
                            conformance::barrier::retention(&*schemas).await;
                        })
                        .await;
                }
            }
        };
    }
    each_suite!(Direct as direct);
    each_suite!(UsersPool as on_a_users_pool);
    each_suite!(Pooler as behind_a_pooler);
    each_suite!(ServiceRole as as_the_role_of_a_service);
}
