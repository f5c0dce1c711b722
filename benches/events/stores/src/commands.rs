//! Commands that load an aggregate, decide, and append an event: ours, and other crates in a separate program.

use std::future::ready;
use std::path::Path;
use std::process::Command;

use buttress::Json;
use buttress_durable::event_store::{Batch, Config, Effects, Log, Projection, Repository};
use tower::{BoxError, service_fn};

use crate::aggregate::{Add, Sum};
use crate::bench::{Append, Error, median, write};
use crate::on_postgres::{drop_schema, open, pool};

/// The crates, as the program `peers` names them, and as the report does.
const PEERS: [(&str, &str); 3] =
    [("cqrs-es", "cqrs-es, postgres-es"), ("esrs", "esrs"), ("disintegrate", "disintegrate")];

/// A candidate, and its commands per second: the median of the rounds, the least and the most.
pub struct Rate {
    pub name: String,
    pub rate: f64,
    pub least: f64,
    pub most: f64,
}

impl Rate {
    fn new(name: &str, rates: &[f64]) -> Self {
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        Self { name: name.to_owned(), rate: median(rates), least, most }
    }
}

/// Commands of a repository. With `follows`, a projection of the same process gives the events their order meanwhile.
async fn ours(url: &str, streams: u64, follows: Option<String>) -> Result<f64, Error> {
    let store = open(url).await?;
    let log = Log::new(store.clone());
    let projection = match follows {
        Some(name) => {
            let handler = service_fn(|batch: Batch<()>| ready(Ok::<_, BoxError>(batch)));
            let config = Config::new().effects(Effects::Live);
            Some(Projection::new(name, &log, handler, config)?.spawn())
        }
        None => None,
    };
    let sums = Repository::<Sum, _, _>::new(&log, Json);
    let rate = write(streams, move |Append { stream, version, .. }| {
        let sums = sums.clone();
        async move {
            let done = sums.execute(&stream.to_string(), &Add(version)).await?;
            if done.version.get() != version {
                return Err(format!("version {} instead of {version}", done.version).into());
            }
            Ok(())
        }
    })
    .await?;
    if let Some(projection) = projection {
        projection.shut_down().await;
    }
    store.close().await;
    Ok(rate)
}

/// Runs a round of a peer, which prints its rate. Returns `None` if its program is not built.
fn peer(name: &str, url: &str, round: usize) -> Result<Option<f64>, Error> {
    let program =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/target/release/event_store_peers");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map(|target| Path::new(&target).join("release/event_store_peers"));
    let found = [target, Some(program)].into_iter().flatten().find(|program| program.exists());
    let Some(program) = found else { return Ok(None) };
    let output = Command::new(program).args([name, url, &round.to_string()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{name}: {text}{error}").into());
    }
    Ok(Some(text.trim().parse()?))
}

pub async fn measure(url: &str, rounds: usize) -> Result<Vec<Rate>, Error> {
    let pool = pool(url).await?;
    drop_schema(&pool).await?;
    let mut found: Vec<Vec<f64>> = vec![Vec::new(); PEERS.len() + 2];
    for round in 0..rounds {
        let streams = 2 * round as u64 * 1_000_000;
        let alone = ours(url, streams, None).await?;
        let followed = ours(url, streams + 1_000_000, Some(format!("sums-{round}"))).await?;
        let mut of_round = vec![Some(alone), Some(followed)];
        for (name, _) in PEERS {
            of_round.push(peer(name, url, round)?);
        }
        for (rates, rate) in found.iter_mut().zip(of_round) {
            rates.extend(rate);
        }
    }
    drop_schema(&pool).await?;
    pool.close().await;
    let ours = ["buttress", "buttress, while a projection follows"];
    let names = ours.into_iter().chain(PEERS.iter().map(|(_, name)| *name));
    let rates = names.zip(found).filter(|(_, rates)| !rates.is_empty());
    Ok(rates.map(|(name, rates)| Rate::new(name, &rates)).collect())
}
