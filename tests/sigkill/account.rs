//! The account of the effects.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use buttress::idempotency::{self, CompleteIn, WithClaim};
use buttress_durable::event_store::{Filter, Position, StreamId};
use buttress_durable::saga::{Entry, EntryKind, Page, Status};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};

use crate::database::Database;
use crate::steps::{KEYS, Recording, completes, starts_in_transaction, stream, waits_for};
use crate::worker;

/// The most messages that one kill or freeze may deliver again: the messages that a relay holds beyond its
/// batch.
const TWICE: i64 = 40;

/// The shortest difference of times that a store distinguishes.
const GRAIN: Duration = Duration::from_millis(1);

/// A database with all parts under test.
pub(crate) trait Answers:
    Recording + idempotency::Store<Vec<u8>> + CompleteIn<<Self as Database>::Tx, Vec<u8>>
{
}

impl<D> Answers for D where
    D: Recording + idempotency::Store<Vec<u8>> + CompleteIn<<D as Database>::Tx, Vec<u8>>
{
}

pub(crate) async fn create_tables<D: Database>(database: &D) -> Result<(), BoxError> {
    for table in [
        "CREATE TABLE effects (saga BIGINT NOT NULL, step BIGINT NOT NULL, change BIGINT NOT NULL)",
        "CREATE INDEX effects_saga ON effects (saga)",
        "CREATE TABLE starts (saga BIGINT NOT NULL)",
        "CREATE TABLE answers (request BIGINT NOT NULL, answer BIGINT NOT NULL)",
        "CREATE INDEX answers_request ON answers (request)",
        "CREATE TABLE lines (line BIGINT PRIMARY KEY, written BIGINT NOT NULL, \
         deliveries BIGINT NOT NULL, received BIGINT NOT NULL, last BIGINT NOT NULL, \
         violations BIGINT NOT NULL, lost_answers BIGINT NOT NULL)",
        "CREATE TABLE folds (line BIGINT PRIMARY KEY, events BIGINT NOT NULL, wrong BIGINT NOT NULL)",
    ] {
        database.ask(table, &[]).await?;
    }
    for line in 0..KEYS {
        database.ask("INSERT INTO lines VALUES ($1, 0, 0, 0, 0, 0, 0)", &[line]).await?;
        database.ask("INSERT INTO folds VALUES ($1, 0, 0)", &[line]).await?;
    }
    Ok(())
}

#[derive(Debug, Default)]
pub(crate) struct Account {
    text: Vec<String>,
    wrong: Vec<String>,
}

impl Account {
    pub(crate) fn balances(&self) -> bool {
        self.wrong.is_empty()
    }

    fn check(&mut self, holds: bool, wrong: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(wrong());
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}", self.text.join("\n  "))?;
        let mut shown = self.wrong.iter().take(20);
        shown.try_for_each(|wrong| write!(f, "\n  WRONG: {wrong}"))
    }
}

/// What happened to the workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mishaps {
    pub kills: u64,
    pub freezes: u64,
}

pub(crate) async fn draw_up<D: Answers>(
    database: &D,
    mishaps: Mishaps,
) -> Result<Account, BoxError> {
    let mut account = Account::default();
    sagas(&mut account, database, mishaps.kills).await?;
    waits(&mut account, database).await?;
    messages(&mut account, database, mishaps.kills + mishaps.freezes).await?;
    events_6_4_a_message_has_its_event(&mut account, database).await?;
    answers(&mut account, database).await?;
    Ok(account)
}

async fn sagas<D: Answers>(
    account: &mut Account,
    database: &D,
    kills: u64,
) -> Result<(), BoxError> {
    // The actions and undos, by saga and step.
    let effects = "SELECT saga, step, CAST(sum(CASE WHEN change = 1 THEN 1 ELSE 0 END) AS BIGINT), \
                   CAST(sum(CASE WHEN change = -1 THEN 1 ELSE 0 END) AS BIGINT) \
                   FROM effects GROUP BY saga, step";
    let mut done: BTreeMap<i64, BTreeMap<i64, (i64, i64)>> = BTreeMap::new();
    for row in database.ask(effects, &[]).await? {
        let [saga, step, acted, undone] = row[..] else { return Err("four columns".into()) };
        done.entry(saga).or_default().insert(step, (acted, undone));
    }
    let starts = "SELECT saga, CAST(count(*) AS BIGINT) FROM starts GROUP BY saga";
    let mut started: BTreeMap<i64, i64> = BTreeMap::new();
    for row in database.ask(starts, &[]).await? {
        let [saga, count] = row[..] else { return Err("two columns".into()) };
        started.insert(saga, count);
    }
    let in_transactions = started.len();
    let all = database.list(Page::first(1_000_000)).await?;
    let mut taken_over = 0;
    for saga in &all {
        let number = i64::try_from(saga.id.get())?;
        let in_transaction = starts_in_transaction(number);
        // A saga that started in a transaction has no owner: a worker takes it. A worker also takes each saga whose
        // wait is over. Both raise the epoch once.
        let waited = completes(number) && !waits_for(number).is_zero();
        let first = 1 + u64::from(in_transaction) + u64::from(waited);
        taken_over += saga.epoch.saturating_sub(first);
        let rows = started.remove(&number).unwrap_or(0);
        account.check(rows == i64::from(in_transaction), || {
            format!("saga {number}: started in {rows} transactions")
        });
        let wanted = if completes(number) { Status::Completed } else { Status::Compensated };
        account.check(saga.status == wanted, || format!("saga {number} is {:?}", saga.status));
        let effects = done.remove(&number).unwrap_or_default();
        let step = |step| effects.get(&step).copied().unwrap_or((0, 0));
        let whole = match wanted {
            Status::Completed => (1..=4).all(|number| step(number) == (1, 0)),
            _ => {
                let undone = |number| matches!(step(number), (0, 0) | (1, 1));
                undone(1) && undone(2) && step(3) == (0, 0) && step(4) == (0, 0)
            }
        };
        account.check(whole, || format!("saga {number}, {wanted:?}: effects {effects:?}"));
    }
    account.check(started.is_empty(), || format!("committed without a saga: {started:?}"));
    account.check(in_transactions > 0, || "no saga started in a transaction".to_owned());
    account.check(done.is_empty(), || format!("effects without a saga: {done:?}"));
    let many = taken_over * 4 >= kills;
    account.check(many, || "too little was going on for the kills to hit anything".to_owned());
    account.text.push(format!(
        "{} sagas, {taken_over} take-overs, {in_transactions} started in a transaction",
        all.len()
    ));
    Ok(())
}

/// Every saga that had to wait has waited once, for its whole time by the clock of the store, and then had its
/// next effect. Its effects are in the account of the sagas.
async fn waits<D: Answers>(account: &mut Account, database: &D) -> Result<(), BoxError> {
    let (mut waited, mut latest) = (0, Duration::ZERO);
    for saga in database.list(Page::first(1_000_000)).await? {
        let number = i64::try_from(saga.id.get())?;
        let wanted = waits_for(number);
        if wanted.is_zero() || !completes(number) {
            continue;
        }
        let record = database.load(saga.id).await?.ok_or("a listed saga")?;
        let at = |kind, last: bool| {
            let mut places = record.entries.iter().zip(&record.times);
            let of_kind = |(entry, _): &(&Entry<Vec<u8>>, _)| entry.kind() == kind;
            let found = if last { places.rfind(of_kind) } else { places.find(of_kind) };
            found.and_then(|(_, time)| *time)
        };
        let (began, ended) = (at(EntryKind::WaitStarted, false), at(EntryKind::WaitEnded, true));
        let (Some(began), Some(ended)) = (began, ended) else {
            account.wrong.push(format!("saga {number} did not wait: {:?}", record.entries));
            continue;
        };
        let ends = record.entries.iter().filter(|entry| entry.kind() == EntryKind::WaitEnded);
        account.check(ends.count() == 1, || format!("saga {number}: {:?}", record.entries));
        let took = ended.saturating_sub(began);
        account.check(took + GRAIN >= wanted, || {
            format!("saga {number} waited for {took:?} instead of {wanted:?}")
        });
        waited += 1;
        latest = latest.max(took.saturating_sub(wanted));
    }
    account.check(waited > 0, || "no saga waited".to_owned());
    account.text.push(format!(
        "{waited} sagas waited for a time, and none too short; the latest continued {} ms after it",
        latest.as_millis()
    ));
    Ok(())
}

async fn messages<D: Answers>(
    account: &mut Account,
    database: &D,
    mishaps: u64,
) -> Result<(), BoxError> {
    let sums = "SELECT CAST(sum(written) AS BIGINT), CAST(sum(received) AS BIGINT), \
                CAST(sum(deliveries) AS BIGINT), CAST(sum(violations) AS BIGINT), \
                CAST(sum(lost_answers) AS BIGINT) FROM lines";
    let sums = database.ask(sums, &[]).await?.concat();
    let [written, received, deliveries, violations, lost_answers] = sums[..] else {
        return Err("five columns".into());
    };
    let backlog = database.backlog().await?;
    let twice = deliveries - received;
    account.text.push(format!(
        "{written} messages written, {received} received, {} lost, {twice} delivered again \
         ({lost_answers} for a lost answer), {violations} out of order",
        written - received
    ));
    account.check(written == received, || "messages were lost".to_owned());
    account.check(violations == 0, || "messages came out of order".to_owned());
    account.check(backlog.pending + backlog.dead == 0, || format!("{backlog:?}"));
    let allowed = lost_answers + i64::try_from(mishaps)? * TWICE;
    account.check(twice >= lost_answers && twice <= allowed, || "so many duplicates".to_owned());
    account.check(written > 0, || "no message was written".to_owned());
    Ok(())
}

/// events 6.4: a transaction has written its message, its event, and the number of both, or none of them.
/// events 6.7 and 6.8: the projection of two workers, which are killed, equals a fold over the log.
async fn events_6_4_a_message_has_its_event<D: Answers>(
    account: &mut Account,
    database: &D,
) -> Result<(), BoxError> {
    let rows =
        "SELECT line, written, events, wrong FROM lines JOIN folds USING (line) ORDER BY line";
    let rows = database.ask(rows, &[]).await?;
    let mut written: BTreeMap<StreamId, u64> = BTreeMap::new();
    for row in &rows {
        let [line, count, folded, wrong] = row[..] else { return Err("four columns".into()) };
        account.check((folded, wrong) == (count, 0), || {
            format!(
                "line {line}: {count} events, the projection counts {folded}, {wrong} out of order"
            )
        });
        let state = database.stream_state(&stream(line)).await?.unwrap_or_default();
        account.check(state.version.get() == count.unsigned_abs(), || {
            format!("line {line}: {count} messages, and the stream has {state:?}")
        });
        written.insert(stream(line), 0);
    }
    let (mut after, mut all) = (Position::START, 0_u64);
    loop {
        let page = database.read_all(after, &Filter::all(), 1000).await?;
        if page.events.is_empty() {
            break;
        }
        after = page.through;
        for one in &page.events {
            all += 1;
            let version = written.entry(one.event.stream.clone()).or_default();
            *version += 1;
            let in_order = (one.position.get(), one.event.version.get()) == (all, *version);
            account.check(in_order, || format!("event {all} is {one:?}"));
        }
    }
    let messages = "SELECT CAST(sum(written) AS BIGINT) FROM lines";
    let messages = database.count(messages, &[]).await?;
    account.check(all == messages.unsigned_abs(), || format!("{all} events, {messages} messages"));
    account
        .text
        .push(format!("{all} events, one for each message, in one order; each projected once"));
    Ok(())
}

/// Repeats every request. Each must have an answer, the answer of its one effect.
async fn answers<D: Answers>(account: &mut Account, database: &D) -> Result<(), BoxError> {
    let rows = database.ask("SELECT request, answer FROM answers ORDER BY request", &[]).await?;
    let service = ServiceBuilder::new().layer(worker::requests(database)?).service(service_fn(
        async |request: WithClaim<i64, D, Vec<u8>>| {
            Err::<Vec<u8>, BoxError>(format!("{} has no answer", request.request).into())
        },
    ));
    let mut before = 0;
    for row in &rows {
        let [request, answer] = row[..] else { return Err("two columns".into()) };
        account.check(request == before + 1, || format!("request {request} after {before}"));
        before = request;
        match service.clone().oneshot(request).await {
            Ok(replayed) => account.check(replayed == answer.to_string().into_bytes(), || {
                format!("request {request}: the answer differs from its effect")
            }),
            Err(error) => account.wrong.push(format!("request {request}: {error}")),
        }
    }
    account.check(!rows.is_empty(), || "no request was answered".to_owned());
    account.text.push(format!("{} requests, each with one effect and its answer", rows.len()));
    Ok(())
}
