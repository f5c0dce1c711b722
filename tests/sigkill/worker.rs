//! A worker: sagas, a relay and requests, until it is killed.

use std::process::Command;
use std::time::Duration;

use buttress::idempotency::{
    self, Answers, CompleteIn, IdempotencyLayer, InvalidKey, Key, Transactional, WithClaim,
};
use buttress::retry::Backoff;
use buttress::{AsError, Clock, InvalidConfig, Json, Rng, StoreError};
use buttress_durable::event_store::{self, Log, Projection};
use buttress_durable::outbox::{self, HeadOfKey, Message, Outbox, Relay};
use buttress_durable::saga::{self, Executor, Page, SagaId, Status};
use serde::{Deserialize, Serialize};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};

use crate::database::{Database, Place};
use crate::steps::{self, Recording, Site};

/// The time after which the work of a killed worker can be resumed.
const LEASE: Duration = Duration::from_millis(200);
/// The number of concurrent sagas of one worker.
const AT_ONCE: u64 = 8;
const DUTY: &str = "BUTTRESS_SIGKILL_DUTY";

/// The sagas that a worker starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Share {
    /// The sagas with even numbers.
    Even,
    Odd,
    /// None: the worker ends when all work is done.
    WhatIsLeft,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Duty {
    pub place: Place,
    pub share: Share,
    pub seed: u64,
}

impl Duty {
    /// Returns the assignment of this process, or `None` in the process that kills.
    pub(crate) fn of_this_process() -> Result<Option<Self>, BoxError> {
        let Ok(text) = std::env::var(DUTY) else { return Ok(None) };
        Ok(Some(serde_json::from_str(&text)?))
    }

    pub(crate) fn pass_to(&self, command: &mut Command) -> Result<(), BoxError> {
        command.env(DUTY, serde_json::to_string(self)?);
        Ok(())
    }
}

pub(crate) async fn work<D>(duty: &Duty) -> Result<(), BoxError>
where
    D: Recording + idempotency::Store<Vec<u8>> + CompleteIn<<D as Database>::Tx, Vec<u8>>,
{
    let database = patiently(async || D::open_at(&duty.place).await).await?;
    let outbox = Outbox::new(database.clone());
    let site =
        Site { database: database.clone(), outbox: outbox.clone(), rng: Rng::seeded(duty.seed) };
    let soon = || Backoff::fixed(Duration::from_millis(10));
    // The last worker is not killed. On a busy machine it would miss the short lease, and begin its sagas again and again.
    let lease = if duty.share == Share::WhatIsLeft { 50 * LEASE } else { LEASE };

    let config = saga::Config::new().lease(lease).undo_retry(50, soon()).run_again(50, soon());
    let sagas = Executor::new(steps::definition(&site)?, database.clone(), config)?;
    sagas.keep_recovering(LEASE / 4);

    let consumer = site.clone();
    let publisher = service_fn(move |message: Message| {
        let site = consumer.clone();
        async move { steps::receive(&site, &message).await }
    });
    let config = outbox::Config::new()
        .lease(lease)
        .batch(20)
        .poll(Duration::from_millis(10))
        .idle_poll(Duration::from_millis(20))
        .retry(50, soon())
        .max_hint(Duration::from_secs(60))
        // A crash of these processes is not a reason to isolate a message.
        .max_starts(10_000)
        .head_of_key(HeadOfKey::Block);
    let relay = Relay::new(&outbox, publisher, config)?.spawn();

    let soon_again = Duration::from_millis(10);
    let config = event_store::Config::new().lease(lease).poll(soon_again).batch(20);
    let projection = Projection::new(
        "folds",
        &Log::new(database.clone()),
        service_fn(steps::follow::<D>),
        config,
    )?
    .in_transaction()
    .spawn();

    match duty.share {
        Share::Even => _ = tokio::try_join!(start(&sagas, &database, 0), ask(&database))?,
        Share::Odd => _ = tokio::try_join!(start(&sagas, &database, 1), ask(&database))?,
        Share::WhatIsLeft => {
            while !patiently(async || is_done(&database).await).await? {
                Clock::default().sleep(LEASE / 10).await;
            }
        }
    }
    relay.shut_down().await;
    projection.shut_down().await;
    Ok(sagas.shut_down().await?)
}

/// Repeats an operation until a busy database does it in time.
async fn patiently<T>(operation: impl AsyncFn() -> Result<T, BoxError>) -> Result<T, BoxError> {
    loop {
        match operation().await {
            Err(error) if error.downcast_ref().is_some_and(StoreError::is_transient) => {
                Clock::default().sleep(LEASE / 10).await;
            }
            ended => return ended,
        }
    }
}

async fn is_done<D: Recording>(database: &D) -> Result<bool, BoxError> {
    let left =
        "SELECT CAST((SELECT sum(written) FROM lines) - (SELECT sum(events) FROM folds) AS BIGINT)";
    if database.count(left, &[]).await? != 0 {
        return Ok(false);
    }
    for status in [Status::Running, Status::Unwinding, Status::Waiting] {
        if !database.list(Page::first(1).status(status)).await?.is_empty() {
            return Ok(false);
        }
    }
    Ok(database.backlog().await?.pending == 0)
}

/// Starts one saga after another, with the numbers that leave `rest` when divided by two.
async fn start<D: Recording>(
    sagas: &Executor<i64, Json, D>,
    database: &D,
    rest: i64,
) -> Result<(), BoxError> {
    let last = "SELECT coalesce(max(saga), 0) FROM effects WHERE saga % 2 = $1";
    let last = patiently(async || database.count(last, &[rest]).await).await?;
    let (mut number, mut has_work) = (last - last % 2 + rest, false);
    loop {
        while sagas.stats().active < AT_ONCE {
            number += 2;
            // An earlier worker has started the saga, or the store is busy and the saga is skipped.
            if steps::starts_in_transaction(number) {
                let _started = start_in_transaction(sagas, database, number).await;
            } else {
                let _started = sagas.start_as(id(number), number).await;
            }
            if !has_work && sagas.stats().active > 0 {
                break;
            }
        }
        if !has_work {
            // The process that kills waits for a line.
            println!("has work");
            has_work = true;
        }
        Clock::default().sleep(Duration::from_millis(2)).await;
    }
}

fn id(number: i64) -> SagaId {
    SagaId::new(number.unsigned_abs().into())
}

/// Starts a saga together with a row. A kill right after the commit leaves it to another worker.
async fn start_in_transaction<D: Recording>(
    sagas: &Executor<i64, Json, D>,
    database: &D,
    number: i64,
) -> Result<(), BoxError> {
    let mut tx = database.begin().await?;
    let started = sagas.start_in(&mut tx, id(number), number).await?;
    D::query(&mut tx, "INSERT INTO starts VALUES ($1)", &[number]).await?;
    D::commit(tx).await?;
    drop(started.committed());
    Ok(())
}

/// Sends one request after another under a key, each until it has an answer. Both workers send the
/// same requests, and the successor of a killed worker repeats its last ones.
async fn ask<D>(database: &D) -> Result<(), BoxError>
where
    D: Database + idempotency::Store<Vec<u8>> + CompleteIn<<D as Database>::Tx, Vec<u8>>,
{
    let handler = database.clone();
    let service = ServiceBuilder::new().layer(requests(database)?).service(service_fn(
        move |WithClaim { request: number, claim, .. }: WithClaim<i64, D, Vec<u8>>| {
            let database = handler.clone();
            async move {
                let mine = i64::from(std::process::id());
                let mut tx = database.begin().await?;
                D::query(&mut tx, "INSERT INTO answers VALUES ($1, $2)", &[number, mine]).await?;
                let answer = mine.to_string().into_bytes();
                claim.complete_in(&mut tx, &answer).await?;
                D::commit(tx).await?;
                Ok::<_, BoxError>(answer)
            }
        },
    ));
    let last = "SELECT coalesce(max(request), 0) FROM answers";
    let last = patiently(async || database.count(last, &[]).await).await?;
    for number in (last - 3).max(1).. {
        while service.clone().oneshot(number).await.is_err() {
            Clock::default().sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

type KeyOf = fn(&i64) -> Result<Key, InvalidKey>;
pub(crate) type Requests<D> = IdempotencyLayer<KeyOf, Vec<u8>, Answers, AsError, Transactional<D>>;

/// Returns the layer that protects the requests of this test, in every process.
pub(crate) fn requests<D>(database: &D) -> Result<Requests<D>, InvalidConfig>
where
    D: Clone + idempotency::Store<Vec<u8>>,
{
    let config = idempotency::Config::new().lease(LEASE).poll_interval(LEASE / 20);
    let key: KeyOf = |number| Key::scoped("sigkill", &number.to_string());
    IdempotencyLayer::transactional(config, database.clone(), key)
}
