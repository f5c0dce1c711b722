//! The saga of the test and its participants. They are part of the worker, so they too are killed
//! in the middle of their transactions.

use std::time::Duration;

use buttress::{Json, Rng};
use buttress_durable::event_store::{
    Append, AppendError, Batch, Begin, Checkpoint, Expected, NewBatch, NewEvent, Store, StreamId,
    Version,
};
use buttress_durable::outbox::Outbox;
use buttress_durable::saga::{
    Call, CreateIn, Definition, Direction, InvalidDefinition, Kind, Passage, StepHandle,
};
use tower::{BoxError, Service, service_fn};

use crate::database::Database;

pub(crate) const KEYS: i64 = 12;

/// The transaction of a database.
pub(crate) type Tx<D> = <D as Database>::Tx;

/// A database whose transactions also append events, and move checkpoints of projections.
pub(crate) trait Recording:
    Database
    + Store
    + Append<Tx<Self>>
    + Checkpoint<Tx<Self>>
    + Begin<Tx = Tx<Self>>
    + CreateIn<Tx<Self>, Vec<u8>>
{
}

impl<D> Recording for D where
    D: Database
        + Store
        + Append<Tx<D>>
        + Checkpoint<Tx<D>>
        + Begin<Tx = Tx<D>>
        + CreateIn<Tx<D>, Vec<u8>>
{
}

/// Returns the stream of a key, which has an event for each message of the key.
pub(crate) fn stream(key: i64) -> StreamId {
    StreamId::new("line", key.to_string())
}

/// The outcome of a saga, by the last digit of its number.
const REFUSED: i64 = 3;
const LOSES_ITS_ANSWER: i64 = 5;
const STUMBLES: i64 = 7;

/// Whether a saga with this number must complete.
pub(crate) fn completes(number: i64) -> bool {
    !matches!(number % 10, REFUSED | LOSES_ITS_ANSWER)
}

/// Whether a saga with this number starts in a transaction, together with a row in the table of starts.
pub(crate) fn starts_in_transaction(number: i64) -> bool {
    number % 3 == 0
}

/// How long a saga with this number waits between its charge and its announcement. Zero does not wait. A worker
/// lives for about 200 ms, so another worker than the one that recorded the wait continues most of these sagas.
pub(crate) fn waits_for(number: i64) -> Duration {
    match number % 4 {
        0 => Duration::from_millis(150 + number.unsigned_abs() % 7 * 50),
        _ => Duration::ZERO,
    }
}

/// The number that stands for a step in the table of effects.
fn code(step: &str) -> i64 {
    match step {
        "reserve" => 1,
        "charge" => 2,
        "announce" => 3,
        _ => 4,
    }
}

#[derive(Clone)]
pub(crate) struct Site<D> {
    pub database: D,
    pub outbox: Outbox<D>,
    pub rng: Rng,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("refused")]
    Refused,
    #[error("stumbled")]
    Stumbled,
    #[error("no answer")]
    NoAnswer,
    #[error(transparent)]
    Store(#[from] buttress::StoreError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Statement(#[from] sqlx::Error),
}

/// Reserves and charges in parallel, waits for some time, announces, and confirms.
pub(crate) fn definition<D: Recording>(
    site: &Site<D>,
) -> Result<Definition<i64, Json>, InvalidDefinition> {
    let step = || participant(site);
    let number = |number: &i64, ()| *number;
    let mut saga = Definition::builder("sigkill", 1).codec(Json);
    saga.parallel(|saga| {
        for name in ["reserve", "charge"] {
            let _: StepHandle<()> = saga
                .step(name)
                .action((), step(), number)
                .definite(|failed| matches!(failed, Failed::Refused))
                .undo((), step(), |number: &i64, (), _| *number)
                .add();
        }
    });
    saga.step("settle").wait(|number: &i64, ()| waits_for(*number));
    saga.step("announce").kind(Kind::Pivot).action((), step(), number).add();
    saga.step("confirm").kind(Kind::Retryable).action((), step(), number).add();
    saga.build()
}

fn participant<D: Recording>(
    site: &Site<D>,
) -> impl Service<Call<i64>, Response = (), Error = Failed, Future: Send + 'static>
+ Clone
+ Send
+ 'static {
    let site = site.clone();
    service_fn(move |call: Call<i64>| {
        let site = site.clone();
        async move {
            match call.key().direction() {
                Direction::Action => site.act(&call).await,
                Direction::Undo => site.undo(&call).await,
            }
        }
    })
}

impl<D: Recording> Site<D> {
    async fn act(&self, call: &Call<i64>) -> Result<(), Failed> {
        let (number, saga, step) = (*call.request(), call.key().saga(), call.key().step());
        let (step, digit) = (step.as_str(), number % 10);
        if digit == STUMBLES && self.rng.between(1, 3) > 1 && code(step) > 2 {
            return Err(Failed::Stumbled);
        }
        let mut tx = self.database.begin().await?;
        match self.database.action(&mut tx, saga, step).await? {
            Passage::Proceed => self.effect(&mut tx, number, step, 1).await?,
            Passage::Repeated => {}
            Passage::Overtaken => return Err(Failed::Refused),
        }
        if step == "charge" && digit == REFUSED {
            return Err(Failed::Refused);
        }
        D::commit(tx).await?;
        if step == "charge" && digit == LOSES_ITS_ANSWER {
            return Err(Failed::NoAnswer);
        }
        Ok(())
    }

    async fn undo(&self, call: &Call<i64>) -> Result<(), Failed> {
        let (number, saga, step) = (*call.request(), call.key().saga(), call.key().step());
        let step = step.as_str();
        let mut tx = self.database.begin().await?;
        if self.database.undo(&mut tx, saga, step).await? == Passage::Proceed {
            self.effect(&mut tx, number, step, -1).await?;
        }
        D::commit(tx).await?;
        Ok(())
    }

    /// Executes the effect of the step. Only the barrier prevents a second execution.
    async fn effect(
        &self,
        tx: &mut Tx<D>,
        number: i64,
        step: &str,
        change: i64,
    ) -> Result<(), Failed> {
        let insert = "INSERT INTO effects VALUES ($1, $2, $3)";
        D::query(tx, insert, &[number, code(step), change]).await?;
        if step == "announce" {
            // The lock on the row of the key orders the messages of the key.
            let key = number % KEYS;
            let next = "UPDATE lines SET written = written + 1 WHERE line = $1 RETURNING written";
            let place = D::query(tx, next, &[key]).await?.concat();
            let place = place.first().copied().unwrap_or(0);
            let payload = format!("{key} {place}");
            let message = self.outbox.message(key.to_string(), payload.clone());
            // The lock on the row orders the events too, so the version is the number of messages.
            let before = Version::new(place.unsigned_abs().saturating_sub(1));
            let event = NewEvent::new(message.id, "line.written", payload);
            let batch = NewBatch::new(stream(key), Expected::Exactly(before), vec![event]);
            let _written = self.outbox.write(tx, message).await?;
            self.database.append_in(tx, &batch).await?;
        }
        Ok(())
    }
}

/// Receives a message, as a consumer of the outbox.
pub(crate) async fn receive<D: Recording>(
    site: &Site<D>,
    message: &buttress_durable::outbox::Message,
) -> Result<(), BoxError> {
    let luck = site.rng.between(1, 20);
    if luck == 1 {
        return Err("busy".into());
    }
    let text = std::str::from_utf8(&message.payload)?;
    let (key, place) = text.split_once(' ').ok_or("not a message of this test")?;
    let (key, place): (i64, i64) = (key.parse()?, place.parse()?);
    let mut tx = site.database.begin().await?;
    let receipt = site.database.receive(&mut tx, "sigkill", message.id).await?;
    let first = i64::from(receipt == buttress_durable::outbox::Receipt::First);
    let lost = i64::from(luck == 2);
    // In order: the first delivery of each message follows its predecessor, and no repetition
    // precedes its first delivery.
    let note = "UPDATE lines SET deliveries = deliveries + 1, received = received + $2, \
                    violations = violations + CASE WHEN last + $2 >= $3 AND ($2 = 0 OR last + 1 = $3) \
                        THEN 0 ELSE 1 END, \
                    last = CASE WHEN $2 = 1 THEN $3 ELSE last END, lost_answers = lost_answers + $4 \
                WHERE line = $1";
    D::query(&mut tx, note, &[key, first, place, lost]).await?;
    D::commit(tx).await?;
    if lost == 1 { Err("no answer".into()) } else { Ok(()) }
}

/// Counts the events of each line, as a projection whose transaction also moves its checkpoint.
pub(crate) async fn follow<D: Recording>(
    mut batch: Batch<Tx<D>>,
) -> Result<Batch<Tx<D>>, BoxError> {
    let count = "UPDATE folds SET wrong = wrong + CASE WHEN events + 1 = $2 THEN 0 ELSE 1 END, \
                 events = events + 1 WHERE line = $1";
    let (tx, events) = batch.parts();
    for one in events {
        let line: i64 = one.event.stream.id().parse()?;
        let version = i64::try_from(one.event.version.get())?;
        D::query(tx, count, &[line, version]).await?;
    }
    Ok(batch)
}
