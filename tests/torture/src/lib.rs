//! Relays and consumers of a transport that are killed with SIGKILL, over connections that are cut at random.
//!
//! The program writes 500 events a second to an outbox on SQLite. A relay and the consumers are child processes: the
//! same program, with a [`Duty`]. One of them is killed and replaced about every second, and all connections to the
//! transport are cut about every second. After the time is over the children finish, and the account must balance:
//! nothing lost, no effect doubled, and the first handlings of each key in order.

mod account;
mod children;
mod duty;

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use buttress::{Clock, Rng};
use buttress_durable::consume::Source;
use buttress_durable::event::Event;
use buttress_durable::outbox::{Message, MessageId, Store as _, Write as _};
use buttress_sim::TcpProxy;
use buttress_sqlx::{SqliteConfig, SqliteStore, Synchronous};
use tower::{BoxError, Service};

pub use account::Account;
use children::Children;
pub use duty::Duty;

const KEYS: u32 = 40;
const PER_SECOND: u32 = 500;
/// Events per transaction.
const AT_ONCE: u32 = 25;
/// The longest time that the messages of a transport take to be read in the end.
const READING: Duration = Duration::from_secs(300);
/// Messages that the relay has in progress.
const UNDER_WAY: usize = 64;

/// A transport under test.
pub trait Transport: Send + Sync + 'static {
    /// The publisher of the relay.
    type Publisher: Service<Message, Response: Send, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + 'static;
    /// The subscription of a consumer.
    type Source: Source;

    /// Connects a publisher to the transport at `address`.
    fn publisher(
        &self,
        address: &str,
    ) -> impl Future<Output = Result<Self::Publisher, BoxError>> + Send;

    /// Connects a member of the group `billing` to the transport at `address`, with a lease of at most 2 seconds.
    fn source(&self, address: &str) -> impl Future<Output = Result<Self::Source, BoxError>> + Send;

    /// Returns how many consumers there are. Default: 2.
    fn consumers(&self) -> usize {
        2
    }

    /// Returns how long a consumer lives at least until it is killed. Default: no time. A transport whose groups need
    /// seconds to admit a member would otherwise deliver nothing before the kills are over.
    fn life(&self) -> Duration {
        Duration::ZERO
    }

    /// Returns the messages that the transport at `address` has: their keys and payloads, in their order for each key.
    fn published(
        &self,
        address: &str,
    ) -> impl Future<Output = Result<Vec<(String, Vec<u8>)>, BoxError>> + Send;
}

/// Does the duty of a child process, and does not end. Returns if this process is not a child, after it has answered a
/// request for the names of the tests.
pub async fn begin(transport: &impl Transport, test: &str) -> Result<bool, BoxError> {
    if let Some(duty) = Duty::of_this_process() {
        match duty.work(transport).await {}
    }
    let lists = std::env::args().any(|argument| argument == "--list");
    if lists {
        println!("{test}: test");
    }
    Ok(!lists)
}

/// Returns the time of a test: the seconds that the environment variable `name` has, or 10.
#[must_use]
pub fn time_of(name: &str) -> Duration {
    let seconds = std::env::var(name).ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10))
}

/// Returns the seed of the kills and cuts: the environment variable `BUTTRESS_SEED`, or a random one. It repeats their
/// times and choices, but not those of the operating system.
fn seed() -> u64 {
    let seed = std::env::var("BUTTRESS_SEED").ok().and_then(|text| text.parse().ok());
    seed.unwrap_or_else(|| Rng::default().next_u64())
}

/// Runs the test for a time against the transport at `address`, which keeps everything, and prints its account. The
/// children connect to it through `proxy`.
pub async fn run(
    transport: &impl Transport,
    address: SocketAddr,
    proxy: &TcpProxy,
    time: Duration,
) -> Result<ExitCode, BoxError> {
    let name = format!("buttress-torture-{:016x}", Rng::default().next_u64());
    let folder = Folder(std::env::temp_dir().join(name));
    std::fs::create_dir_all(&folder.0)?;
    let account = torture(transport, address, proxy, time, &folder.0).await?;
    println!("{account:#?}");
    let is_well = account.balances(time);
    println!("{} passed, {} failed", u8::from(is_well), u8::from(!is_well));
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

async fn open(folder: &Path, name: &str) -> Result<SqliteStore, BoxError> {
    // A killed process loses nothing that the operating system has.
    let config = SqliteConfig::new(folder.join(name)).synchronous(Synchronous::Normal);
    Ok(SqliteStore::open(config).await?)
}

async fn torture(
    transport: &impl Transport,
    address: SocketAddr,
    proxy: &TcpProxy,
    time: Duration,
    folder: &Path,
) -> Result<Account, BoxError> {
    let (outbox, effects) = (open(folder, "outbox.db").await?, open(folder, "effects.db").await?);
    account::create(&effects).await?;
    let mut children = Children::new(folder, &proxy.address().to_string(), transport.life());
    children.start(duty::RELAY)?;
    for _ in 0..transport.consumers() {
        children.start(duty::CONSUMER)?;
    }
    let seed = seed();
    let (clock, rng) = (Clock::default(), Rng::seeded(seed));
    let within = |low: u64, high: u64| Duration::from_millis(rng.between(low, high));
    let begun = clock.now();
    let mut account = Account { seed, ..Account::default() };
    let (mut next_kill, mut next_cut) = (begun + within(1000, 2000), begun + within(700, 1500));
    while clock.now() < begun + time {
        write(&outbox, account.written).await?;
        account.written += AT_ONCE;
        if clock.now() >= next_kill {
            children.replace_one(&rng)?;
            (account.kills, next_kill) = (account.kills + 1, clock.now() + within(700, 1500));
        }
        if clock.now() >= next_cut {
            proxy.cut();
            (account.cuts, next_cut) = (account.cuts + 1, clock.now() + within(500, 1500));
        }
        clock.sleep_until(begun + Duration::from_secs(1) * account.written / PER_SECOND).await;
    }
    account.wrote_for = clock.now() - begun;
    let ended = clock.now();
    while account::count(&effects).await? < u64::from(account.written)
        && clock.now() < ended + Duration::from_secs(300)
    {
        clock.sleep(Duration::from_millis(200)).await;
    }
    account.finished_after = clock.now() - ended;
    // What would come twice has two seconds for it.
    clock.sleep(Duration::from_secs(2)).await;
    account.dead = outbox.backlog().await?.dead;
    drop(children);
    account.take_in_effects(&effects).await?;
    let address = address.to_string();
    tokio::select! {
        published = transport.published(&address) => account.take_in_published(&published?)?,
        () = clock.sleep(READING) => return Err("the messages of the transport cannot be read".into()),
    }
    effects.close().await;
    outbox.close().await;
    Ok(account)
}

/// Writes the next events, in one transaction.
async fn write(outbox: &SqliteStore, from: u32) -> Result<(), BoxError> {
    let mut tx = outbox.begin().await?;
    for number in from..from + AT_ONCE {
        let key = format!("order-{}", number % KEYS);
        let data = (number / KEYS).to_string().into_bytes();
        let id = MessageId::random(&Rng::default());
        let event = Event::new(id, "shop", "order.paid", key, data).into_message()?;
        outbox.write(&mut tx, &event).await?;
    }
    Ok(tx.commit().await?)
}
