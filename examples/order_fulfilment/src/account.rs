//! The account: compares the logs of the sagas, the tables of the services, and the ledger.

use std::collections::BTreeSet;
use std::fmt;

use buttress_durable::saga::{Page, Status};
use tower::BoxError;

use crate::database::Database;
use crate::services::orders::{CANCELLED, CONFIRMED, OPEN};

/// The progress of the orders.
#[derive(Debug)]
pub(crate) struct Standing {
    under_way: usize,
    completed: usize,
    compensated: usize,
    stuck: usize,
    /// The number of undelivered messages.
    pending: u64,
}

impl Standing {
    pub(crate) async fn read<D: Database>(database: &D) -> Result<Self, BoxError> {
        let count = async |status| Ok::<_, BoxError>(numbers(database, status).await?.len());
        Ok(Self {
            under_way: count(Status::Running).await? + count(Status::Unwinding).await?,
            completed: count(Status::Completed).await?,
            compensated: count(Status::Compensated).await?,
            stuck: count(Status::Stuck).await?,
            pending: database.backlog().await?.pending,
        })
    }

    /// Whether nothing will change any more.
    pub(crate) fn is_settled(&self, orders: i64) -> bool {
        let ended = self.completed + self.compensated + self.stuck;
        i64::try_from(ended) == Ok(orders) && self.pending == 0
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "orders: {} under way, {} completed, {} compensated, {} stuck; {} messages waiting",
            self.under_way, self.completed, self.compensated, self.stuck, self.pending
        )
    }
}

/// Returns the numbers of the orders whose sagas have this status.
async fn numbers<D: Database>(database: &D, status: Status) -> Result<BTreeSet<i64>, BoxError> {
    let sagas = database.list(Page::first(100_000).status(status)).await?;
    Ok(sagas.iter().filter_map(|saga| i64::try_from(saga.id.get()).ok()).collect())
}

/// A line of the account, with its errors.
#[derive(Debug)]
struct Line {
    text: String,
    wrong: Vec<&'static str>,
}

/// The account. `Display` formats it for people.
#[derive(Debug, Default)]
pub(crate) struct Account {
    lines: Vec<Line>,
}

impl Account {
    pub(crate) async fn draw_up<D: Database>(database: &D, placed: i64) -> Result<Self, BoxError> {
        let mut account = Self::default();
        account.orders(database, placed).await?;
        account.money(database).await?;
        account.stock(database).await?;
        account.messages(database).await?;
        Ok(account)
    }

    pub(crate) fn balances(&self) -> bool {
        self.lines.iter().all(|line| line.wrong.is_empty())
    }

    /// Adds a line. Each check has a description of its error, and `true` if it passed.
    fn line(&mut self, text: String, checks: &[(&'static str, bool)]) {
        let wrong = checks.iter().filter(|(_, holds)| !holds).map(|(what, _)| *what).collect();
        self.lines.push(Line { text, wrong });
    }

    async fn orders<D: Database>(&mut self, database: &D, placed: i64) -> Result<(), BoxError> {
        let completed = numbers(database, Status::Completed).await?;
        let compensated = numbers(database, Status::Compensated).await?;
        let stuck = numbers(database, Status::Stuck).await?;
        let all = completed.len() + compensated.len() + stuck.len();
        self.line(
            format!(
                "orders     {placed} placed = {} completed + {} compensated + {} stuck",
                completed.len(),
                compensated.len(),
                stuck.len()
            ),
            &[
                ("orders are missing", i64::try_from(all) == Ok(placed)),
                ("orders are stuck", stuck.is_empty()),
            ],
        );
        let with = async |status| {
            let select = "SELECT number FROM orders WHERE status = $1 ORDER BY number";
            Ok::<_, BoxError>(database.ask(select, &[status]).await?.concat())
        };
        let (open, confirmed) = (with(OPEN).await?, with(CONFIRMED).await?);
        let cancelled = with(CANCELLED).await?;
        self.line(
            format!(
                "           {} confirmed, {} cancelled, {} open",
                confirmed.len(),
                cancelled.len(),
                open.len()
            ),
            &[
                (
                    "the confirmed orders differ from the completed sagas",
                    confirmed.iter().eq(&completed),
                ),
                ("an order was cancelled whose saga was not undone", {
                    cancelled.iter().all(|number| compensated.contains(number))
                }),
                ("an order was cancelled twice", cancelled.is_sorted_by(|one, next| one < next)),
                ("some orders are still open", open.is_empty()),
            ],
        );
        Ok(())
    }

    async fn money<D: Database>(&mut self, database: &D) -> Result<(), BoxError> {
        let charges = "SELECT count(*), CAST(coalesce(sum(cents), 0) AS BIGINT) FROM charges";
        let refunds = "SELECT count(*), CAST(coalesce(sum(cents), 0) AS BIGINT) FROM refunds";
        let both = async |sums| {
            let rows = database.ask(sums, &[]).await?.concat();
            Ok::<_, BoxError>((at(&rows, 0), at(&rows, 1)))
        };
        let (charges, charged) = both(charges).await?;
        let (refunds, refunded) = both(refunds).await?;
        let paid = "SELECT count(*) FROM orders AS o WHERE \
                        (SELECT count(*) FROM charges AS c WHERE c.number = o.number) \
                      - (SELECT count(*) FROM refunds AS r WHERE r.number = o.number) \
                     <> CASE WHEN o.status = $1 THEN 1 ELSE 0 END";
        let twice = "SELECT count(*) FROM (SELECT number FROM charges GROUP BY number \
                     HAVING count(*) > 1 UNION ALL SELECT number FROM refunds GROUP BY number \
                     HAVING count(*) > 1) AS twice";
        let confirmed =
            database.count("SELECT count(*) FROM orders WHERE status = $1", &[CONFIRMED]);
        let euros = |cents: i64| format!("{}.{:02}", cents / 100, cents % 100);
        self.line(
            format!(
                "money      {charges} charges of {} - {refunds} refunds of {} = {}",
                euros(charged),
                euros(refunded),
                euros(charged - refunded)
            ),
            &[
                ("the paid orders differ from the confirmed orders", {
                    charges - refunds == confirmed.await?
                        && database.count(paid, &[CONFIRMED]).await? == 0
                }),
                ("a card was charged or refunded twice", database.count(twice, &[]).await? == 0),
            ],
        );
        Ok(())
    }

    async fn stock<D: Database>(&mut self, database: &D) -> Result<(), BoxError> {
        let taken =
            database.count("SELECT CAST(sum(delivered - available) AS BIGINT) FROM stock", &[]);
        let reserved = database
            .count("SELECT CAST(coalesce(sum(quantity), 0) AS BIGINT) FROM reservations", &[]);
        let (taken, reserved) = (taken.await?, reserved.await?);
        let wrong = "SELECT count(*) FROM orders AS o WHERE \
                     (SELECT count(*) FROM reservations AS r WHERE r.number = o.number) \
                      <> CASE WHEN o.status = $1 THEN 1 ELSE 0 END";
        self.line(
            format!("stock      {taken} pieces taken = {reserved} reserved"),
            &[
                ("pieces are missing", taken == reserved),
                ("the reservations differ from the confirmed orders", {
                    database.count(wrong, &[CONFIRMED]).await? == 0
                }),
            ],
        );
        Ok(())
    }

    async fn messages<D: Database>(&mut self, database: &D) -> Result<(), BoxError> {
        let written = "SELECT CAST(sum(news) AS BIGINT) FROM customers";
        let written = database.count(written, &[]).await?;
        let ledger = "SELECT CAST(sum(deliveries) AS BIGINT), CAST(sum(received) AS BIGINT), \
                      CAST(sum(violations) AS BIGINT) FROM ledger";
        let ledger = database.ask(ledger, &[]).await?.concat();
        let (deliveries, received, violations) = (at(&ledger, 0), at(&ledger, 1), at(&ledger, 2));
        let backlog = database.backlog().await?;
        let lost = written - received;
        self.line(
            format!(
                "messages   {written} written = {received} received + {lost} lost; {} duplicates \
                 delivered and left aside; {violations} order violations",
                deliveries - received
            ),
            &[
                ("the ledger lacks messages or has too many", lost == 0),
                ("messages arrived out of order", violations == 0),
                ("messages are pending or dead", backlog.pending + backlog.dead == 0),
            ],
        );
        Ok(())
    }
}

fn at(numbers: &[i64], index: usize) -> i64 {
    numbers.get(index).copied().unwrap_or(0)
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{}", line.text)?;
            for wrong in &line.wrong {
                writeln!(f, "           WRONG: {wrong}")?;
            }
        }
        write!(
            f,
            "{}",
            if self.balances() { "The account balances." } else { "IT DOES NOT BALANCE." }
        )
    }
}
