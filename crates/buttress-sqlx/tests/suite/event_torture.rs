//! The order of all events on both databases, while many writers hold their transactions open and roll them back.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use buttress::{Clock, Rng};
use buttress_durable::event_store::{
    Append as _, AppendError, Expected, Filter, NewBatch, NewEvent, Position, Store, StreamId,
};
use sqlx::sqlite::Sqlite as Lite;

use crate::db::{Db, Sqlite, on_sqlite};
#[cfg(feature = "postgres")]
use crate::db::{Postgres, on_postgres};
use crate::events::{event, order};

/// A scale of the torture test: `BUTTRESS_EVENTS` is the number of events.
fn wanted() -> u64 {
    std::env::var("BUTTRESS_EVENTS").map_or(3_000, |text| text.parse().expect("BUTTRESS_EVENTS"))
}

const WRITERS: u32 = 32;
/// Streams that all writers share. With eight of them a writer waits for the locks of others for nine tenths of the time.
const SHARED: u32 = 64;

/// The operations that differ between the databases.
trait Torture: Db {
    /// The longest usual pause of a transaction in milliseconds, and the longest rare one.
    const PAUSES: (u64, u64);
    /// Gives a transaction its number on the server.
    const NUMBER: &'static str;

    /// Begins a transaction. `None` if other writers keep the database for longer than a caller waits.
    fn start(&self) -> impl Future<Output = Option<Self::Tx>> + Send;
    /// Returns the database with a separate connection for the transactions of one writer.
    fn writer(&self) -> Self;
    /// Executes a statement in a transaction.
    fn run(tx: &mut Self::Tx, sql: &'static str) -> impl Future<Output = ()> + Send;
}

impl Torture for Sqlite {
    // A transaction that is open keeps every other one waiting.
    const PAUSES: (u64, u64) = (0, 3);
    const NUMBER: &'static str = "SELECT 1";

    async fn start(&self) -> Option<Self::Tx> {
        match self.store.begin().await {
            Err(error) if error.is_transient() => None,
            tx => Some(tx.unwrap()),
        }
    }

    fn writer(&self) -> Self {
        self.clone()
    }

    async fn run(tx: &mut Self::Tx, sql: &'static str) {
        sqlx::query::<Lite>(sql).execute(&mut ***tx).await.unwrap();
    }
}

#[cfg(feature = "postgres")]
impl Torture for Postgres {
    const PAUSES: (u64, u64) = (20, 500);
    const NUMBER: &'static str = "SELECT pg_current_xact_id()";

    async fn start(&self) -> Option<Self::Tx> {
        Some(self.begin().await)
    }

    fn writer(&self) -> Self {
        let mut own = self.clone();
        let one = sqlx::postgres::PgPoolOptions::new().max_connections(1);
        own.pool = one.connect_lazy(&self.url).unwrap();
        own
    }

    async fn run(tx: &mut Self::Tx, sql: &'static str) {
        sqlx::query(sql).execute(&mut **tx).await.unwrap();
    }
}

/// The numbers that all writers count.
#[derive(Default)]
struct Counts {
    committed: AtomicU64,
    rolled_back: AtomicU64,
    /// Transactions that waited too long for others, e.g. because the disk stalled.
    late: AtomicU64,
}

/// A committed event: its stream, version and id.
type Written = (StreamId, u64, u128);

/// One writer.
struct Writer<D> {
    db: D,
    number: u32,
    rng: Rng,
    /// The last id.
    id: u128,
}

impl<D: Torture> Writer<D> {
    /// Writes until the writers have committed `until` events. Returns the events that this writer has committed.
    async fn run(mut self, until: u64, counts: Arc<Counts>) -> Vec<Written> {
        let mut mine = Vec::new();
        while counts.committed.load(Relaxed) < until {
            let written = if self.rng.between(0, 7) == 0 {
                self.alone().await
            } else {
                let Some(written) = self.transaction(&counts).await else {
                    counts.late.fetch_add(1, Relaxed);
                    continue;
                };
                written
            };
            counts.committed.fetch_add(written.len() as u64, Relaxed);
            mine.extend(written);
        }
        mine
    }

    fn events(&mut self) -> Vec<NewEvent> {
        let many = self.rng.between(1, 3);
        let next = |_| {
            self.id += 1;
            event(self.id)
        };
        (0..many).map(next).collect()
    }

    /// Appends in a transaction of the store, to a stream that no other writer has.
    async fn alone(&mut self) -> Vec<Written> {
        let events = self.events();
        let batch = NewBatch::new(order(1000 + self.number), Expected::Any, events);
        loop {
            match self.db.store().append_batch(&batch).await {
                // It is unknown whether the batch was written. A repeat of it is written once.
                Err(AppendError::Store(error)) if error.is_transient() => {}
                appended => return places(&batch, appended.unwrap().first.get()),
            }
        }
    }

    /// One transaction of one to four appends, some to streams of other writers too. It is held open, a third is rolled
    /// back, some have savepoints, and some begin long before they append. Returns the events that it has committed.
    async fn transaction(&mut self, counts: &Counts) -> Option<Vec<Written>> {
        let mut tx = self.db.start().await?;
        if self.rng.between(0, 3) == 0 {
            D::run(&mut tx, D::NUMBER).await;
            self.pause().await;
        }
        let shared = u64::from(SHARED) - 1;
        let stream = |_| match self.rng.between(0, 1) {
            0 => 1000 + self.number,
            _ => self.rng.between(0, shared) as u32,
        };
        let mut streams: Vec<u32> = (0..self.rng.between(1, 4)).map(stream).collect();
        // In one order, so that the writers do not deadlock.
        streams.sort_unstable();
        let (mut written, mut undone) = (Vec::new(), 0);
        while let Some(of) = streams.pop() {
            let savepoint = self.rng.between(0, 4) == 0;
            if savepoint {
                D::run(&mut tx, "SAVEPOINT s").await;
            }
            let batch = NewBatch::new(order(of), Expected::Any, self.events());
            let appended = match self.db.store().append_in(&mut tx, &batch).await {
                // On a busy machine the queue of writers of one stream can be longer than the time limit.
                Err(AppendError::Store(error)) if error.is_transient() => {
                    self.db.rollback(tx).await;
                    return None;
                }
                appended => appended.unwrap(),
            };
            if savepoint && self.rng.between(0, 1) == 0 {
                D::run(&mut tx, "ROLLBACK TO s").await;
                undone += batch.events.len();
            } else {
                written.extend(places(&batch, appended.first.get()));
            }
        }
        self.pause().await;
        if self.rng.between(0, 2) == 0 {
            self.db.rollback(tx).await;
            undone += std::mem::take(&mut written).len();
        } else {
            self.db.commit(tx).await;
        }
        counts.rolled_back.fetch_add(undone as u64, Relaxed);
        Some(written)
    }

    /// Mostly short, sometimes long.
    async fn pause(&self) {
        let (usual, rare) = D::PAUSES;
        let most = if self.rng.between(0, 9) == 0 { rare } else { usual };
        let pause = self.rng.between(0, most);
        if pause > 0 {
            Clock::default().sleep(Duration::from_millis(pause)).await;
        }
    }
}

fn places(batch: &NewBatch, first: u64) -> Vec<Written> {
    let place =
        |(version, event): (u64, &NewEvent)| (batch.stream.clone(), version, event.id.get());
    (first..).zip(&batch.events).map(place).collect()
}

/// Reads until the writers have ended and a page is empty. Returns the events in the order of their positions.
async fn read(store: impl Store, limit: usize, is_over: Arc<AtomicBool>) -> Vec<Written> {
    let (mut seen, mut after) = (Vec::new(), Position::START);
    loop {
        let over = is_over.load(std::sync::atomic::Ordering::SeqCst);
        let page = store.read_all(after, &Filter::all(), limit).await.unwrap();
        let is_empty = page.events.is_empty();
        for one in page.events {
            assert_eq!(one.position.get(), after.get() + 1, "positions have no gap");
            after = one.position;
            seen.push((one.event.stream, one.event.version.get(), one.event.id.get()));
        }
        assert_eq!(page.through, after);
        if is_empty && over {
            return seen;
        }
        if is_empty {
            Clock::default().sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn torture<D: Torture>(db: D) {
    let seed = std::env::var("BUTTRESS_SEED").ok().map(|text| text.parse().unwrap());
    let seed = seed.unwrap_or_else(|| Rng::default().next_u64());
    println!("BUTTRESS_SEED={seed}, {} events", wanted());
    let (rng, begun) = (Rng::seeded(seed), Instant::now());
    let (is_over, counts) = (Arc::new(AtomicBool::new(false)), Arc::<Counts>::default());
    let mut readers = Vec::new();
    for limit in [7, 100, 1000] {
        // Each reader is another process. On PostgreSQL it gives positions too.
        readers.push(tokio::spawn(read(db.another().await, limit, Arc::clone(&is_over))));
    }
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let (rng, id) = (Rng::seeded(rng.next_u64()), u128::from(number) << 64);
            let writer = Writer { db: db.writer(), number, rng, id };
            tokio::spawn(writer.run(wanted(), Arc::clone(&counts)))
        })
        .collect();
    let mut written = BTreeMap::new();
    for writer in writers {
        for (stream, version, id) in writer.await.unwrap() {
            let twice = written.insert((stream, version), id);
            assert_eq!(twice, None, "one event at a version");
        }
    }
    let written_in = begun.elapsed();
    is_over.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut seen = Vec::new();
    for reader in readers {
        seen.push(reader.await.unwrap());
    }
    for other in &seen[1..] {
        assert!(seen[0] == *other, "one order for all");
    }
    let all = &seen[0];
    assert_eq!(all.len(), written.len(), "0 missed, 0 twice");
    let mut versions: BTreeMap<&StreamId, u64> = BTreeMap::new();
    for (stream, at, id) in all {
        let version = versions.entry(stream).or_default();
        *version += 1;
        // events 6.15: the order of a stream is the order of its versions.
        assert_eq!(at, version, "{stream}");
        assert_eq!(written.get(&(stream.clone(), *at)), Some(id));
    }
    let stats = db.store().event_stats().await.unwrap();
    assert_eq!((stats.last, stats.unsequenced_age), (all.len() as u64, Duration::ZERO));
    println!(
        "{} events committed and {} rolled back in {written_in:.1?}, {} transactions waited too long; \
         each of {} readers saw {}, the last one after {:.1?}",
        written.len(),
        counts.rolled_back.load(Relaxed),
        counts.late.load(Relaxed),
        seen.len(),
        all.len(),
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_6_5_every_reader_sees_every_event_once_while_writers_roll_back_on_sqlite() {
    on_sqlite(torture).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_6_5_every_reader_sees_every_event_once_while_writers_hold_and_roll_back() {
    on_postgres("events_6_5", torture).await;
}
