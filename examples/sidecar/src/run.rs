//! Puts the parts together.

use std::future::Future;
use std::process::Command;

use buttress::Clock;
use buttress_edge::serve;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower::BoxError;

use crate::arguments::Arguments;
use crate::front::{Front, address};
use crate::gate::Gate;
use crate::limits::Limits;
use crate::standing::{Service, Standing};
use crate::supervise::{Signals, supervise};
use crate::{admin, probe};

/// Runs the sidecar. Returns its exit code.
///
/// # Errors
/// The file of limits, an address or the URL cannot be used. The command was not started then.
#[tokio::main]
pub(crate) async fn run(arguments: Arguments) -> Result<u8, BoxError> {
    // Before everything else: a signal that is not caught would leave the child alone.
    let signals = Signals::catch()?;
    let limits = match &arguments.config {
        Some(path) => Limits::read(path)?,
        None => Limits::default(),
    };
    let front = Front::new(&arguments.to, limits, arguments.trust.clone())?;
    let address = address(&arguments.to).ok_or("the URL has no host")?;
    let standing = Standing::new(Clock::default().now());
    let gate = Gate::new(front.proxy.clone(), standing.clone(), arguments.trust);
    let health = admin::health(&front, &standing)?;
    let checks = health.spawn();

    let listener = listen(&arguments.listen).await?;
    eprintln!("sidecar: listens on {}", listener.local_addr()?);
    let (over, is_over) = oneshot::channel::<()>();
    let admin = match &arguments.admin {
        Some(at) => {
            let listener = listen(at).await?;
            eprintln!("sidecar: health and metrics on {}", listener.local_addr()?);
            let metrics = admin::Metrics::install(&front, &gate, &standing, &health)?;
            let until = async { drop(is_over.await) };
            Some(tokio::spawn(admin::run(listener, health.clone(), metrics, until)))
        }
        None => None,
    };
    let served = serve(listener, gate)
        .health(health)
        .drain(arguments.rules.stop_limit)
        .until(stops(&standing));
    let served = tokio::spawn(served.into_future());

    let mut command = Command::new(&arguments.command);
    command.args(&arguments.rest);
    let probe = tokio::spawn({
        let (standing, circuit) = (standing.clone(), front.circuit.clone());
        // A new child starts with a closed circuit.
        async move { probe::probe(&standing, &address, || circuit.reset()).await }
    });
    let code = supervise(command, arguments.rules, signals, &standing).await;
    probe.abort();
    // The answers that clients have not read yet.
    let served = served.await?;
    let stats = front.stats();
    eprintln!(
        "sidecar: ends with code {code}; {} requests, {} connections cut off",
        stats.begun, served.cut
    );
    // Health and metrics are there until the last answer.
    drop(over);
    if let Some(admin) = admin {
        admin.await?;
    }
    drop(checks);
    Ok(code)
}

async fn listen(at: &str) -> Result<TcpListener, BoxError> {
    TcpListener::bind(at).await.map_err(|error| format!("cannot listen on {at}: {error}").into())
}

/// Completes when the sidecar begins to end.
fn stops(standing: &Standing) -> impl Future<Output = ()> + Send + 'static {
    let mut changes = standing.changes();
    // The sender lives as long as the gate, which lives as long as the listener.
    async move { drop(changes.wait_for(|service| *service == Service::Stopping).await) }
}
