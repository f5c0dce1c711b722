//! A worker: relay, consumers and projection in a separate process, which is killed repeatedly. All its state is in the
//! database, so the next worker resumes its work.

use std::convert::Infallible;
use std::time::Duration;

use buttress::retry::Backoff;
use buttress::{Clock, Rng};
use buttress_durable::bus::{Bus, Pattern, Subscribe};
use buttress_durable::consume::{self, Consumer, ConsumerHandle, Delivery, Reason, Select, Source};
use buttress_durable::outbox::{self, Message, Outbox, Relay, RelayHandle};
use buttress_sqlx::SqliteStore;
use tokio::io::AsyncReadExt;
use tower::{BoxError, Service, service_fn};

use crate::broker::{Broker, Role};
use crate::crew::Assignment;
use crate::handlers::Handlers;
use crate::list;
#[cfg(feature = "amqp")]
use crate::over_amqp;
#[cfg(feature = "kafka")]
use crate::over_kafka;
#[cfg(feature = "nats")]
use crate::over_nats;
#[cfg(feature = "redis")]
use crate::over_redis;
use crate::tables;

/// The time after which another worker takes over from a killed one. It is too short for production, where no
/// worker is killed every second.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

/// Works until the standard input ends, and then finishes the work in progress.
pub(crate) async fn work(assignment: Assignment) -> Result<(), BoxError> {
    let Assignment { file, broker, role, is_mended } = assignment;
    let store = tables::open(&file).await?;
    let handlers = Handlers { store: store.clone(), rng: Rng::default(), is_mended };
    let projection = list::follow(&store)?;
    #[cfg(any(feature = "amqp", feature = "kafka", feature = "nats", feature = "redis"))]
    let process = |url| Process::new(url, role, &file, &store, &handlers);
    let (relay, consumers) = match broker {
        Broker::InProcess => {
            debug_assert_eq!(role, Role::All, "the bus is in one process");
            in_process(&store, &handlers)?
        }
        #[cfg(feature = "amqp")]
        Broker::Amqp(url) => over_amqp::start(process(url)?).await?,
        #[cfg(feature = "nats")]
        Broker::Nats(url) => over_nats::start(process(url)?).await?,
        #[cfg(feature = "kafka")]
        Broker::Kafka(url) => over_kafka::start(process(url)?).await?,
        #[cfg(feature = "redis")]
        Broker::Redis(url) => over_redis::start(process(url)?).await?,
    };
    let replaying = if is_mended { consumers.clone() } else { Vec::new() };
    let replaying = tokio::spawn(keep_replaying(replaying));
    end_of_input().await;
    replaying.abort();
    if let Some(relay) = relay {
        relay.shut_down().await;
    }
    for consumer in consumers {
        consumer.shut_down().await;
    }
    projection.shut_down().await;
    store.close().await;
    Ok(())
}

/// Replays dead letters. An operator does this once, after billing was fixed.
async fn keep_replaying(consumers: Vec<ConsumerHandle>) -> Result<Infallible, BoxError> {
    loop {
        for consumer in &consumers {
            consumer.replay(Select::Reason(Reason::Rejected)).await?;
        }
        Clock::default().sleep(Duration::from_millis(500)).await;
    }
}

pub(crate) type Parts = (Option<RelayHandle>, Vec<ConsumerHandle>);

/// Relay, bus and consumers. The bus keeps its messages in memory. So the relay counts a message as delivered only
/// after every group has handled it: after a kill the next relay publishes the others again.
fn in_process(store: &SqliteStore, handlers: &Handlers) -> Result<Parts, BoxError> {
    let bus = Bus::new();
    let group = |group| bus.subscribe(group, Subscribe::new(Pattern::all()));
    // Both groups exist before the first message: the bus keeps nothing for later groups.
    let consumers = vec![
        consumer(group("billing")?, store, handlers, Handlers::bill)?,
        consumer(group("shipping")?, store, handlers, Handlers::ship)?,
    ];
    let publisher = service_fn(move |message: Message| {
        let bus = bus.clone();
        async move { bus.publish_all_handled(message).await }
    });
    Ok((Some(relay(store, publisher)?), consumers))
}

/// A process with a part of the system, over a broker.
#[cfg(any(feature = "amqp", feature = "kafka", feature = "nats", feature = "redis"))]
pub(crate) struct Process {
    /// The address of the broker.
    pub url: String,
    pub role: Role,
    /// The name of the topic. Each run of the program has its own: the name of its folder.
    pub topic: String,
    store: SqliteStore,
    handlers: Handlers,
}

#[cfg(any(feature = "amqp", feature = "kafka", feature = "nats", feature = "redis"))]
impl Process {
    fn new(
        url: String,
        role: Role,
        file: &std::path::Path,
        store: &SqliteStore,
        handlers: &Handlers,
    ) -> Result<Self, BoxError> {
        let run = file.parent().and_then(std::path::Path::file_name);
        let topic = run.ok_or("the file is in no folder")?.to_string_lossy().into_owned();
        Ok(Self { url, role, topic, store: store.clone(), handlers: handlers.clone() })
    }

    /// Starts the relay, in a process without consumers.
    pub(crate) fn relay<P>(&self, publisher: P) -> Result<Parts, BoxError>
    where
        P: Service<Message, Response: Send, Error: Into<BoxError>, Future: Send + 'static>
            + Clone
            + Send
            + 'static,
    {
        Ok((Some(relay(&self.store, publisher)?), Vec::new()))
    }

    /// Starts a consumer of each group, in a process without a relay.
    pub(crate) fn consumers<S: Source>(
        &self,
        [billing, shipping]: [S; 2],
    ) -> Result<Parts, BoxError> {
        let Self { store, handlers, .. } = self;
        let billing = consumer(billing, store, handlers, Handlers::bill)?;
        let shipping = consumer(shipping, store, handlers, Handlers::ship)?;
        Ok((None, vec![billing, shipping]))
    }
}

/// A relay of the outbox to any publisher.
fn relay<P>(store: &SqliteStore, publisher: P) -> Result<RelayHandle, BoxError>
where
    P: Service<Message, Response: Send, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
{
    let config = outbox::Config::new()
        .name("orders")
        .lease(LEASE)
        .poll(Duration::from_millis(20))
        .idle_poll(Duration::from_millis(50))
        .retry(100, Backoff::fixed(Duration::from_millis(50)))
        .max_hint(Duration::from_secs(1))
        // What a killed relay had fetched is published one at a time.
        .batch(16)
        // A crash of this process is not a reason to isolate a message.
        .max_starts(100);
    Ok(Relay::new(&Outbox::new(store.clone()), publisher, config)?.spawn())
}

/// A consumer of any source, whose dead letters are in the database.
fn consumer<S, F>(
    source: S,
    store: &SqliteStore,
    handlers: &Handlers,
    handle: fn(Handlers, Delivery) -> F,
) -> Result<ConsumerHandle, BoxError>
where
    S: Source,
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let config = consume::Config::new()
        .name(source.group().to_owned())
        .retry(10, Backoff::exponential(Duration::from_millis(20)))
        // A crash of this process is not a reason to give a message up.
        .max_redeliveries(1000)
        .drain(Duration::from_secs(5));
    let handlers = handlers.clone();
    let handler = service_fn(move |delivery: Delivery| handle(handlers.clone(), delivery));
    Ok(Consumer::new(source, handler, config)?.dead_letters(store.clone()).spawn())
}

/// Waits until the worker is dismissed, or its parent process has exited.
async fn end_of_input() {
    let mut input = tokio::io::stdin();
    while input.read_u8().await.is_ok() {}
}
