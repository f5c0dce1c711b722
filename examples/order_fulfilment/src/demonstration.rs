//! The demonstration, from the first order to the account.

use std::time::{Duration, Instant};

use buttress::{Clock, Rng};
use buttress_durable::outbox::CountedInbox;
use buttress_durable::saga::CountedBarrier;
use tokio::sync::watch;
use tower::BoxError;

use crate::account::{Account, Standing};
use crate::crew::{Assignment, Worker};
use crate::database::{Database, Place};
use crate::{customers, ledger, services};

const ORDERS: i64 = 400;
/// The time between two orders.
const GAP: Duration = Duration::from_millis(45);
/// The range of a worker's life, in milliseconds.
const LIFE: (u64, u64) = (1_000, 2_500);
/// The time limit of the last worker for the remaining work.
const LAST_WORK: Duration = Duration::from_secs(25);

/// Runs the demonstration on the database at `place`. Returns whether the account balances.
pub(crate) async fn run<D: Database>(place: &Place) -> Result<bool, BoxError> {
    let clock = Clock::default();
    let start = clock.now();
    // The draws depend on the order of events too, so a seed repeats a run only approximately.
    let rng = Rng::seeded(7);
    let database = D::open_at(place).await?;
    services::create_tables(&database).await?;
    ledger::create_tables(&database).await?;
    let ledger = ledger::start(CountedInbox::new("ledger", database.clone()), &rng).await?;
    let barrier = CountedBarrier::new("services", database.clone());
    let services = services::start(&barrier, ledger, &rng).await?;
    let assignment = Assignment { place: place.clone(), services };
    println!("{ORDERS} orders; the worker is killed about every two seconds.\n");

    let (announce, worker) = watch::channel(None);
    let (killed, kills) = watch::channel(0);
    let customers = tokio::spawn({
        let rng = rng.clone();
        async move { customers::come(ORDERS, GAP, worker, &rng).await }
    });
    let progress = tokio::spawn(progress(database.clone(), start, kills));

    let last = loop {
        let worker = Worker::hire(&assignment).await?;
        announce.send_replace(Some(worker.address));
        clock.sleep(Duration::from_millis(rng.between(LIFE.0, LIFE.1))).await;
        if customers.is_finished() {
            break worker;
        }
        announce.send_replace(None);
        worker.kill().await?;
        killed.send_modify(|kills| *kills += 1);
    };
    let sent_again = customers.await?;
    let give_up = clock.now() + LAST_WORK;
    while !Standing::read(&database).await?.is_settled(ORDERS) && clock.now() < give_up {
        clock.sleep(Duration::from_millis(100)).await;
    }
    let ended = last.dismiss().await?;
    progress.abort();

    let account = Account::draw_up(&database, ORDERS).await?;
    let took = clock.now().saturating_duration_since(start);
    println!("\n{account}");
    println!(
        "\nThe worker was killed {} times; {sent_again} orders had to be sent again.",
        *killed.borrow()
    );
    println!("The last worker ended by itself: {ended}. Took {:.1} seconds.", took.as_secs_f64());
    Ok(account.balances() && ended.success())
}

async fn progress<D: Database>(database: D, start: Instant, kills: watch::Receiver<u32>) {
    let clock = Clock::default();
    loop {
        clock.sleep(Duration::from_secs(1)).await;
        let seconds = clock.now().saturating_duration_since(start).as_secs_f64();
        match Standing::read(&database).await {
            Ok(standing) => println!("{seconds:5.1} s  {standing}, {} kills", *kills.borrow()),
            Err(error) => println!("{seconds:5.1} s  {error}"),
        }
    }
}
