//! Stores behind PgBouncer, which lends a server's session per transaction.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use buttress::idempotency::{self, ClaimId, Claimed, Key, KeyClaim};
use buttress_durable::outbox::{
    MessageId, NewMessage, RelayId, Renewal, Settled, Store as _, Verdict, Write,
};
use buttress_durable::saga::{Store as _, WorkerId};
use buttress_sqlx::{PostgresConfig, PostgresStore};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use crate::db::{Db, Postgres, SECOND, fresh_schema, on_postgres};
use crate::sagas::{append, new_saga};

/// A running PgBouncer, with two sessions of the server.
pub(crate) struct Pooler {
    process: Child,
    folder: PathBuf,
    port: u16,
}

fn program() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&folders).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("pgbouncer")).find(|file| file.is_file())
}

impl Pooler {
    /// Starts a pooler in front of the server of `url`. Prints and returns `None` if the program is
    /// not installed. `BUTTRESS_REQUIRE_SERVICES` is about servers, so it does not require the
    /// program.
    pub(crate) async fn start(test: &str, url: &str) -> Option<Self> {
        let Some(program) = program() else {
            println!("skipped {test} behind a pooler: the program pgbouncer is not installed");
            return None;
        };
        let server: PgConnectOptions = url.parse().unwrap();
        let (host, user) = (server.get_host(), server.get_username());
        let login =
            url.split_once("://").unwrap().1.rsplit_once('@').map_or("", |(login, _)| login);
        let password =
            login.split_once(':').map_or(String::new(), |(_, word)| format!(" password={word}"));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(fresh_schema());
        fs::create_dir(&folder).unwrap();
        let file = folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={host} port={} user={user}{password}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 500\n\
             ignore_startup_parameters = extra_float_digits\n",
            server.get_port()
        );
        fs::write(&file, text).unwrap();
        let process = run(&program, &file);
        let mut pooler = Self { process, folder, port };
        let answers = async {
            while pooler.options(url).connect().await.is_err() {
                assert!(pooler.process.try_wait().unwrap().is_none(), "the pooler has ended");
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(60 * SECOND, answers).await.expect("the pooler answers");
        Some(pooler)
    }

    pub(crate) fn options(&self, url: &str) -> PgConnectOptions {
        let options: PgConnectOptions = url.parse().unwrap();
        options.host("127.0.0.1").port(self.port)
    }
}

/// PgBouncer refuses to run as root.
fn run(program: &Path, file: &Path) -> Child {
    const NOBODY: u32 = 65534;
    let mut command = Command::new(program);
    command.arg(file).stdout(Stdio::null()).stderr(Stdio::null());
    if fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.spawn().unwrap()
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

async fn behind(pooler: &Pooler, db: &Postgres) -> PostgresStore {
    let config = PostgresConfig::with_options(pooler.options(&db.url)).schema(&db.schema);
    let config = config.transaction_pooling(true).connections(8).clock(db.time().clock());
    PostgresStore::open(config).await.unwrap()
}

/// Every operation of a store, from many concurrent clients that share two sessions. No state stays
/// on the sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_share_two_sessions() {
    const TEST: &str = "many_clients_share_two_sessions";
    on_postgres(TEST, async |db: Postgres| {
        let Some(pooler) = Pooler::start(TEST, &db.url).await else { return };
        let stores = [behind(&pooler, &db).await, behind(&pooler, &db).await];
        let mut clients = tokio::task::JoinSet::new();
        for client in 1..=8u128 {
            let store = stores[(client % 2) as usize].clone();
            clients.spawn(async move { work(&store, client).await });
        }
        clients.join_all().await;

        let (store, relay) = (&stores[0], RelayId::new(1));
        let leases =
            store.lease_partitions(Renewal::new(relay, 60 * SECOND, &[])).await.unwrap().leases;
        let found = store.fetch(relay, &leases, 500).await.unwrap().messages;
        assert_eq!(found.len(), 80);
        let settled = found.into_iter().map(|message| {
            let verdict = match message.id.get() % 2 {
                0 => Verdict::Delivered,
                _ => Verdict::Dead { error: "poison".to_owned(), hold_key: true },
            };
            Settled::new(&message, leases[usize::from(message.partition)], verdict)
        });
        assert!(store.settle(settled.collect()).await.unwrap().is_empty());
        assert_eq!(store.backlog().await.unwrap().dead, 40);
        assert!(store.explain_fetch(&leases, 9).await.unwrap().contains("Index"));

        let mut direct = pooler.options(&db.url).connect().await.unwrap();
        for _ in 0..8 {
            assert_eq!(left(&mut direct).await, 0);
        }
        direct.close().await.unwrap();
        for store in stores {
            store.close().await;
        }
    })
    .await;
}

async fn work(store: &PostgresStore, client: u128) {
    let worker = WorkerId::new(client);
    store.renew_worker(worker, 60 * SECOND).await.unwrap();
    let saga = new_saga(worker);
    store.create(saga.clone()).await.unwrap();
    for round in 1..=10u64 {
        store.append(append(saga.id, 1, round)).await.unwrap();
        assert_eq!(store.load(saga.id).await.unwrap().unwrap().entries.len() as u64, round + 1);
        let key = Key::new(&format!("{client} {round}")).unwrap();
        let claim = ClaimId::new(client);
        let claimed =
            idempotency::Store::claim(store, KeyClaim::new(&key, claim), 60 * SECOND).await;
        assert_eq!(claimed.unwrap(), Claimed::Owned);
        let done =
            idempotency::Store::complete(store, KeyClaim::new(&key, claim), vec![7], 60 * SECOND)
                .await;
        done.unwrap();
        let mut tx = store.begin().await.unwrap();
        let id = MessageId::new(client * 100 + u128::from(round));
        store.lock_key(&mut tx, "k").await.unwrap();
        store.write(&mut tx, &NewMessage::new(id, client.to_string(), "x")).await.unwrap();
        let timeout = "SELECT setting FROM pg_settings WHERE name = 'lock_timeout'";
        let timeout: String =
            sqlx::query_scalar(timeout).persistent(false).fetch_one(&mut *tx).await.unwrap();
        assert_eq!(timeout, "5000");
        tx.commit().await.unwrap();
    }
}

/// Returns how many settings and statements of the store are left on the session that answers.
async fn left(connection: &mut PgConnection) -> i64 {
    let sql = "SELECT (SELECT count(*) FROM pg_prepared_statements) + (SELECT count(*) \
               FROM pg_settings WHERE source = 'session' AND name IN ('statement_timeout', \
               'lock_timeout', 'idle_in_transaction_session_timeout', 'enable_seqscan', \
               'enable_bitmapscan', 'jit', 'default_transaction_isolation'))";
    sqlx::query_scalar(sql).persistent(false).fetch_one(connection).await.unwrap()
}

/// The store is behind the pooler, on a pool of the application's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_pool_may_be_behind_a_pooler() {
    const TEST: &str = "a_users_pool_may_be_behind_a_pooler";
    on_postgres(TEST, async |db: Postgres| {
        let Some(pooler) = Pooler::start(TEST, &db.url).await else { return };
        let pool = sqlx::PgPool::connect_with(pooler.options(&db.url)).await.unwrap();
        let config = PostgresConfig::with_pool(pool.clone()).schema(&db.schema);
        let config = config.transaction_pooling(true).operation_timeout(Duration::from_secs(20));
        let store = PostgresStore::open(config).await.unwrap();
        let saga = new_saga(WorkerId::new(1));
        store.create(saga.clone()).await.unwrap();
        for _ in 0..4 {
            assert!(store.load(saga.id).await.unwrap().is_some());
        }
        pool.close().await;
    })
    .await;
}
