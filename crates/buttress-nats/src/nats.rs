//! [`Nats`]: a connection, and its publishers, subscriptions and topics.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{
    AckPolicy, DeliverPolicy, FromConsumer as _, PullConsumer, pull,
};
use async_nats::jetstream::context::{Context, ContextBuilder, GetStreamErrorKind};
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind, Stream};
use async_nats::{Client, ConnectErrorKind, ConnectOptions};
use buttress::StoreError;
use buttress_durable::consume::Start;

use crate::error::{Cause, SetupError};
use crate::publisher::{Publish, Publisher};
use crate::subscribe::Subscribe;
use crate::subscription::Subscription;
use crate::topic::Topic;

/// The longest wait for the answer of the server to a request.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);
/// The most messages of one shard that the server delivers unsettled. The rooms of consumers are smaller.
const MOST_PENDING: i64 = 20_000;

/// How the server delivers the messages of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flowing {
    /// With the ack wait of the settings.
    Normal(Duration),
    /// No message after an unsettled one.
    Held(Duration),
    /// Like `Held`, and all unsettled messages again. One of two ack waits: the server acts on a change only.
    Again(Duration),
}

impl Flowing {
    const SHORT_WAITS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(2)];

    /// Returns `Again` with another ack wait than the consumer has: an earlier owner may have crashed.
    pub(crate) fn again(known: &PullConsumer) -> Self {
        let [one, other] = Self::SHORT_WAITS;
        let is_one = known.cached_info().config.ack_wait == one;
        Self::Again(if is_one { other } else { one })
    }

    /// Returns whether an owner has set this to take over.
    pub(crate) fn is_taken_over(ack_wait: Duration, most_pending: i64) -> bool {
        most_pending == 1 || Self::SHORT_WAITS.contains(&ack_wait)
    }

    fn settings(self) -> (Duration, i64) {
        match self {
            Self::Normal(wait) => (wait, MOST_PENDING),
            Self::Held(wait) | Self::Again(wait) => (wait, 1),
        }
    }
}

/// A connection to NATS with JetStream. Cheap to clone: clones share the connection.
#[derive(Clone)]
pub struct Nats {
    pub(crate) client: Client,
    pub(crate) jetstream: Context,
}

impl Nats {
    /// Connects to `address`, e.g. "127.0.0.1:4222", "tls://nats.example:4222", or several with commas in between.
    ///
    /// The client reconnects by itself, with waits that grow to 4 seconds. Credentials, certificates and the name of
    /// the connection are in `options`.
    ///
    /// # Errors
    /// Returns [`SetupError::Connect`], which names the setting: `address`, `credentials` or `tls`.
    pub async fn connect(address: &str, options: ConnectOptions) -> Result<Self, SetupError> {
        let addresses: Vec<&str> = address.split(',').map(str::trim).collect();
        match options.connect(addresses).await {
            Ok(client) => Ok(Self::new(client)),
            Err(error) => {
                let setting = match error.kind() {
                    ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                        "credentials"
                    }
                    ConnectErrorKind::Tls => "tls",
                    _ => "address",
                };
                Err(SetupError::Connect {
                    setting,
                    value: without_credentials(address),
                    source: error.into(),
                })
            }
        }
    }

    /// Uses the connection of `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let jetstream = ContextBuilder::new().timeout(ANSWER).build(client.clone());
        Self { client, jetstream }
    }

    /// Uses JetStream through `context`, which has the connection, and the domain or the prefix of the API.
    #[must_use]
    pub fn with_context(context: Context) -> Self {
        Self { client: context.client(), jetstream: context }
    }

    /// Returns the client of the connection.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns a publisher to `topic`, and declares its stream.
    ///
    /// # Errors
    /// Returns [`SetupError`].
    pub async fn publisher(
        &self,
        topic: &Topic,
        settings: Publish,
    ) -> Result<Publisher, SetupError> {
        settings.check()?;
        self.declare(topic).await?;
        Ok(Publisher::new(self.clone(), topic, settings))
    }

    /// Adds a member to a group of `topic`, and declares the stream and the group.
    ///
    /// The member owns no shard before a consumer runs over the [`Subscription`].
    ///
    /// # Errors
    /// Returns [`SetupError`].
    pub async fn subscribe(
        &self,
        topic: &Topic,
        settings: Subscribe,
    ) -> Result<Subscription, SetupError> {
        settings.check()?;
        self.declare(topic).await?;
        for shard in 0..topic.shards {
            self.declare_consumer(topic, &settings, shard).await?;
        }
        let tables = self.declare_tables(topic).await?;
        Ok(Subscription::new(self.clone(), topic, settings, tables))
    }

    /// Returns `true` if the connection is there.
    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Returns how many times the connection was made. An answer proves nothing about a request of an earlier
    /// connection.
    pub(crate) fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Creates the stream, or compares it.
    async fn declare(&self, topic: &Topic) -> Result<(), SetupError> {
        topic.check()?;
        let name = &topic.name;
        let found = match self.jetstream.get_stream(name).await {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(inner)
                    if inner.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    if !topic.create {
                        return Err(SetupError::Missing { stream: name.clone() });
                    }
                    let creating = self.jetstream.get_or_create_stream(topic.stream()).await;
                    creating.map_err(|error| {
                        SetupError::server(format!("create the stream `{name}`"), error)
                    })?
                }
                _ => return Err(SetupError::server(format!("find the stream `{name}`"), error)),
            },
        };
        match topic.mismatch(&found.cached_info().config) {
            Some((argument, wanted, found)) => {
                Err(SetupError::Mismatch { argument, wanted, found, of: name.clone() })
            }
            None => Ok(()),
        }
    }

    /// Creates the consumer of a shard, or compares it.
    async fn declare_consumer(
        &self,
        topic: &Topic,
        settings: &Subscribe,
        shard: u16,
    ) -> Result<(), SetupError> {
        let (stream, name) = (&topic.name, settings.consumer(shard));
        let known = self.consumer(stream, &name).await;
        let known = known
            .map_err(|error| SetupError::server(format!("find the consumer `{name}`"), error))?;
        let found = match known {
            Some(known) => known.cached_info().config.clone(),
            None => {
                let config = consumer_config(topic, settings, shard);
                let made = self.jetstream.create_consumer_on_stream(config, stream).await;
                let made = made.map_err(|error| {
                    SetupError::server(format!("create the consumer `{name}`"), error)
                });
                match made {
                    Ok(made) => made.cached_info().config.clone(),
                    // Another member was faster, a moment later or with another start.
                    Err(error) => match self.consumer(stream, &name).await {
                        Ok(Some(known)) => known.cached_info().config.clone(),
                        _ => return Err(error),
                    },
                }
            }
        };
        let wanted = consumer_config(topic, settings, shard);
        let differs = |argument, wanted: &dyn fmt::Debug, found: &dyn fmt::Debug| {
            let (wanted, found) = (format!("{wanted:?}"), format!("{found:?}"));
            (wanted != found).then(|| SetupError::Mismatch {
                argument,
                wanted,
                found,
                of: name.clone(),
            })
        };
        let taking_over = Flowing::is_taken_over(found.ack_wait, found.max_ack_pending);
        let mismatch = differs("topic", &wanted.filter_subject, &found.filter_subject)
            .or_else(|| differs("group", &wanted.ack_policy, &found.ack_policy))
            .or_else(|| differs("group", &wanted.max_deliver, &found.max_deliver))
            .or_else(|| {
                differs("ack-wait", &wanted.ack_wait, &found.ack_wait).filter(|_| !taking_over)
            });
        mismatch.map_or(Ok(()), Err)
    }

    /// Returns a consumer as the server knows it, or `None` if there is none.
    pub(crate) async fn consumer(
        &self,
        stream: &str,
        name: &str,
    ) -> Result<Option<PullConsumer>, ConsumerError> {
        match self.jetstream.get_consumer_from_stream(name, stream).await {
            Ok(found) => Ok(Some(found)),
            Err(error) => match error.kind() {
                ConsumerErrorKind::JetStream(inner)
                    if inner.error_code() == ErrorCode::CONSUMER_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(error),
            },
        }
    }

    /// Returns when a stream was created, in nanoseconds.
    pub(crate) async fn created(&self, stream: &str) -> Result<i128, StoreError> {
        match self.jetstream.get_stream(stream).await {
            Ok(found) => Ok(found.cached_info().created.unix_timestamp_nanos()),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(inner)
                    if inner.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Err(missing(stream))
                }
                _ => {
                    let why = format!("the stream `{stream}`: cannot ask for its state");
                    Err(StoreError::transient(why).with_source(error))
                }
            },
        }
    }

    /// Sets how the server delivers the messages of a shard. The server looks for expired messages 100 ms later.
    pub(crate) async fn set(&self, known: &PullConsumer, flowing: Flowing) -> Result<(), Cause> {
        let known = known.cached_info();
        let mut config = pull::Config::try_from_consumer_config(known.config.clone())?;
        (config.ack_wait, config.max_ack_pending) = flowing.settings();
        self.jetstream.create_consumer_on_stream(config, &known.stream_name).await?;
        Ok(())
    }

    /// Creates the stream with the tables of the topic's groups.
    async fn declare_tables(&self, topic: &Topic) -> Result<Stream<()>, SetupError> {
        let config = topic.tables();
        let name = config.name.clone();
        let failed =
            |error: Cause| SetupError::server(format!("create the stream `{name}`"), error);
        self.jetstream.get_or_create_stream(config).await.map_err(|error| failed(error.into()))?;
        self.jetstream.get_stream_no_info(&name).await.map_err(|error| failed(error.into()))
    }
}

/// Returns the error of a stream that was deleted while a member works.
pub(crate) fn missing(stream: &str) -> StoreError {
    StoreError::misconfigured(format!(
        "the server has no stream `{stream}`; subscribe again to create it"
    ))
}

/// Returns the addresses without users and passwords.
fn without_credentials(addresses: &str) -> String {
    let shown = addresses.split(',').map(|address| {
        let address = address.trim();
        let begin = address.find("://").map_or(0, |at| at + 3);
        let (scheme, rest) = address.split_at(begin);
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        format!("{scheme}{host}")
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Returns the consumer of a shard as the server should have it.
fn consumer_config(topic: &Topic, settings: &Subscribe, shard: u16) -> pull::Config {
    pull::Config {
        durable_name: Some(settings.consumer(shard)),
        filter_subject: topic.subject(shard),
        deliver_policy: match settings.start {
            Start::First => DeliverPolicy::All,
            Start::New => DeliverPolicy::New,
            Start::At(time) => DeliverPolicy::ByStartTime { start_time: time.into() },
        },
        ack_policy: AckPolicy::Explicit,
        ack_wait: settings.ack_wait,
        // The server skips a message silently after its last delivery. The consumer counts, and makes dead letters.
        max_deliver: -1,
        max_ack_pending: MOST_PENDING,
        ..pull::Config::default()
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("connected", &self.is_connected()).finish_non_exhaustive()
    }
}
