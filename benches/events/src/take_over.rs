//! The time until another process handles the messages of one that was killed.
//!
//! The one that is killed is this program again, as a child that holds a message and handles nothing.

use std::future::{Future, pending};
use std::process::Stdio;
use std::time::{Duration, Instant};

use buttress::Clock;
use buttress_durable::consume::{Config, Consumer, Delivery, MemoryDeadLetters, Source};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;
use tower::{BoxError, service_fn};

use crate::bench::Error;
use crate::report::Target;

/// The argument in front of the broker's name that makes this program a child.
pub const CHILD: &str = "hold-a-message";
/// The lease of a shard, where a broker has leases.
pub const LEASE: Duration = Duration::from_secs(2);

/// Holds the first message until this process is killed.
pub async fn hold(source: impl Source) -> Result<(), Error> {
    let handler = service_fn(async |_: Delivery| {
        println!("{CHILD}");
        pending::<Result<(), BoxError>>().await
    });
    let letters = MemoryDeadLetters::new(Clock::default());
    let config = Config::new().handler_timeout(Duration::from_secs(3600));
    Consumer::new(source, handler, config)?.dead_letters(letters).run().await;
    Ok(())
}

/// Publishes a message with `publish`, waits until a child holds it, kills the child, and waits until the source that
/// `join` opens delivers the message again. `lease` is how long the broker keeps the message for a member that is silent.
/// `admits` is how long the broker needs to admit the second member to the group, which waits for it before the kill.
pub async fn measure<S: Source>(
    broker: &str,
    lease: Duration,
    admits: Duration,
    publish: impl Future<Output = Result<(), Error>>,
    join: impl Future<Output = Result<S, Error>>,
) -> Result<Target, Error> {
    let mut child = Command::new(std::env::current_exe()?);
    child.args([CHILD, broker]).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = child.spawn()?;
    publish.await?;
    let output = child.stdout.take().ok_or("a child without an output")?;
    BufReader::new(output).lines().next_line().await?.ok_or("the child holds nothing")?;
    let (sender, mut handled) = mpsc::channel(1);
    let handler = service_fn(move |_: Delivery| {
        let sender = sender.clone();
        async move { sender.send(()).await.map_err(BoxError::from) }
    });
    let letters = MemoryDeadLetters::new(Clock::default());
    let consumer =
        Consumer::new(join.await?, handler, Config::new())?.dead_letters(letters).spawn();
    tokio::time::sleep(admits).await;
    let begun = Instant::now();
    child.kill().await?;
    handled.recv().await.ok_or("the consumer has ended")?;
    let took = begun.elapsed();
    consumer.shut_down().await;
    let what = format!("{broker}: take-over after SIGKILL, with a lease of {lease:?}, in s");
    Ok(Target::at_most(&what, took.as_secs_f64(), lease.as_secs_f64() + 1.0))
}
