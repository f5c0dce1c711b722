//! The demonstration, from the first order to the account.

use std::path::Path;
use std::time::{Duration, Instant};

use buttress::{Clock, Rng};
use buttress_sqlx::SqliteStore;
use tower::BoxError;

use crate::account::Account;
use crate::audit::Audit;
use crate::broker::Broker;
use crate::crew::Worker;
use crate::shop::Shop;
use crate::{list, tables};

/// When the list of orders is damaged, and then rebuilt, after the shop has opened.
const MISTAKE: Duration = Duration::from_secs(5);

/// Runs the demonstration. Returns whether the account balances.
pub(crate) async fn run(broker: Broker) -> Result<bool, BoxError> {
    let folder = std::env::temp_dir().join(format!("buttress-events-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let ran = run_in(&folder, &broker).await;
    std::fs::remove_dir_all(&folder)?;
    ran
}

async fn run_in(folder: &Path, broker: &Broker) -> Result<bool, BoxError> {
    let clock = Clock::default();
    let start = clock.now();
    let file = folder.join("events.db");
    let store = tables::open(&file).await?;
    tables::create(&store).await?;
    let pace = broker.pace();
    let open = pace.open;
    let [shortest, longest] = [pace.life.0, pace.life.1].map(Duration::from_millis);
    println!(
        "Orders for {open:?} over {broker}; every worker is killed after {shortest:?} to {longest:?}.\n"
    );
    let shop = tokio::spawn(Shop::new(&store).sell(open));
    let mistake = tokio::spawn(mistake(store.clone(), start));
    let killing: Vec<_> = (0..broker.roles().len())
        .map(|at| tokio::spawn(kill(file.clone(), broker.clone(), at)))
        .collect();
    let progress = tokio::spawn(progress(store.clone(), start));
    let refused = shop.await??;
    let damaged = mistake.await??;
    let mut kills = 0;
    for task in killing {
        kills += task.await??;
    }

    // Billing has been fixed. The last workers are not killed, and replay its dead letters.
    let dead = Account::draw_up(&store).await?.dead;
    let last: Result<Vec<Worker>, BoxError> =
        (0..broker.roles().len()).map(|at| Worker::hire(&file, broker, at, true)).collect();
    let give_up = clock.now() + pace.last_work;
    while clock.now() < give_up {
        let is_settled = Account::draw_up(&store).await?.is_settled();
        if is_settled && Audit::draw_up(&store).await?.is_settled() {
            break;
        }
        clock.sleep(Duration::from_millis(100)).await;
    }
    let mut ended_well = true;
    for worker in last? {
        ended_well &= worker.dismiss().await?.success();
    }
    progress.abort();

    let (account, audit) = (Account::draw_up(&store).await?, Audit::draw_up(&store).await?);
    let took = clock.now().saturating_duration_since(start);
    println!("\n{account}");
    println!("\n{audit}");
    println!("\nWorkers were killed {kills} times. {dead} dead letters were replayed.");
    println!("{refused} commands were refused. {damaged} damaged rows of the list were rebuilt.");
    println!("Took {:.1} seconds.", took.as_secs_f64());
    let shows = dead > 0 && kills > 0 && refused > 0 && damaged > 0;
    if !shows {
        println!(
            "No worker was killed, or no message died, or no command was refused, or no row was damaged: the run shows \
             less than it should."
        );
    }
    Ok(account.balances() && audit.balances() && ended_well && shows)
}

/// Damages the list of orders, and rebuilds it while the shop sells and workers are killed. Returns how many rows were
/// damaged.
async fn mistake(store: SqliteStore, start: Instant) -> Result<u64, BoxError> {
    let clock = Clock::default();
    clock.sleep_until(start + MISTAKE).await;
    let damaged = list::damage(&store).await?;
    let at = list::rebuild(&store).await?;
    let seconds = clock.now().saturating_duration_since(start).as_secs_f64();
    println!(
        "{seconds:5.1} s  the list of orders, with {damaged} damaged rows, is rebuilt from {at} events"
    );
    Ok(damaged)
}

/// Starts a worker and kills it, as long as the shop sells. Returns how often.
async fn kill(file: std::path::PathBuf, broker: Broker, at: usize) -> Result<u32, BoxError> {
    let (clock, rng, pace) = (Clock::default(), Rng::default(), broker.pace());
    let end = clock.now() + pace.open;
    let mut kills = 0;
    while clock.now() < end {
        let worker = Worker::hire(&file, &broker, at, false)?;
        clock.sleep(Duration::from_millis(rng.between(pace.life.0, pace.life.1))).await;
        worker.kill().await?;
        kills += 1;
    }
    Ok(kills)
}

async fn progress(store: SqliteStore, start: Instant) {
    let clock = Clock::default();
    loop {
        clock.sleep(Duration::from_secs(2)).await;
        let seconds = clock.now().saturating_duration_since(start).as_secs_f64();
        match Account::draw_up(&store).await {
            Ok(account) => println!("{seconds:5.1} s  {}", account.in_short()),
            Err(error) => println!("{seconds:5.1} s  {error}"),
        }
    }
}
