//! [`Rabbit`]: the address of a RabbitMQ server.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use buttress::{Clock, InvalidConfig};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use crate::check::check_name;
use crate::connecting;
use crate::dead::Dead;
use crate::declare;
use crate::error::SetupError;
use crate::publisher::{Publish, Publisher};
use crate::subscribe::Subscribe;
use crate::subscription::Subscription;
use crate::topic::Topic;

/// The server closes a connection that is silent for two heartbeats.
const HEARTBEAT: u16 = 10;

/// The address of a RabbitMQ server, and how long to wait for it. Cheap to clone.
///
/// It opens no connection. Each publisher and each subscription has its own, because RabbitMQ stops reading from a
/// connection of publishers that are too fast, and acknowledgements must not wait behind them.
#[derive(Clone)]
#[must_use]
pub struct Rabbit {
    uri: AMQPUri,
    name: String,
    pub(crate) clock: Clock,
    pub(crate) limit: Duration,
}

impl Rabbit {
    /// Reads an address such as `amqp://user:password@host:5672/vhost`. Without a path the virtual host is `/`, which
    /// a path writes as `%2f`. The parameter `heartbeat` sets the seconds between heartbeats, which are 10 by default.
    /// The scheme `amqps` is TLS, which the features of [`lapin`] switch on. Without them connecting to such an address is
    /// an error.
    ///
    /// # Errors
    /// Returns [`SetupError::Address`] if `address` is not an address.
    pub fn new(address: &str) -> Result<Self, SetupError> {
        let read = address.parse::<AMQPUri>();
        let mut uri = read.map_err(|why| SetupError::Address { why })?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        let (clock, limit) = (Clock::default(), Duration::from_secs(5));
        Ok(Self { uri, name: "buttress".to_owned(), clock, limit })
    }

    /// Sets the name of the connections, which the server's tools show. Default: "buttress".
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Sets how long connecting and a declaration may take. Default: 5 seconds. Between 10 ms and 1 hour. A publisher
    /// has its own limit for a message.
    pub fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Sets the clock of limits. Default: tokio's clock.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Returns a publisher to `topic`, and declares its exchange. Spawns the task that publishes, which ends after the
    /// last clone of the publisher.
    ///
    /// # Errors
    /// Returns [`SetupError`].
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    pub async fn publisher(
        &self,
        topic: &Topic,
        settings: Publish,
    ) -> Result<Publisher, SetupError> {
        self.check()?;
        settings.check()?;
        topic.check()?;
        let connection = self.connect().await?;
        declare::topic(self, &connection, topic).await?;
        Ok(Publisher::spawn(self.clone(), topic, settings, connection))
    }

    /// Adds a member to a group of `topic`, and declares the exchanges and the group's queues.
    ///
    /// The group receives the messages that are published from now on, if it is new. The member receives nothing
    /// before a consumer runs over the [`Subscription`].
    ///
    /// # Errors
    /// Returns [`SetupError`].
    pub async fn subscribe(
        &self,
        topic: &Topic,
        settings: Subscribe,
    ) -> Result<Subscription, SetupError> {
        self.check()?;
        settings.check()?;
        topic.check()?;
        let connection = self.connect().await?;
        declare::topic(self, &connection, topic).await?;
        declare::group(self, &connection, topic, &settings).await?;
        Ok(Subscription::new(self.clone(), topic, settings, connection))
    }

    /// Returns the dead queue of a group: messages that RabbitMQ does not deliver any more after
    /// [`delivery_limit`](Subscribe::delivery_limit) deliveries.
    ///
    /// # Errors
    /// Returns [`SetupError::Invalid`] if a name cannot be one.
    pub fn dead(&self, topic: &Topic, group: &str) -> Result<Dead, SetupError> {
        self.check()?;
        topic.check()?;
        check_name("group", group)?;
        Ok(Dead::new(self.clone(), topic, group))
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        let bounds = Duration::from_millis(10)..=Duration::from_secs(3600);
        InvalidConfig::check_range("limit", self.limit, bounds)
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<Connection, SetupError> {
        let name = self.name.as_str().into();
        let properties = ConnectionProperties::default().with_connection_name(name);
        let (uri, clock) = (self.uri.clone(), self.clock.clone());
        let connecting = connecting::connect(uri, properties, clock, self.limit);
        let connected = self.within("connecting", connecting).await?;
        connected.map_err(|error| SetupError::connect(self.server(), error))
    }

    /// Waits for `asking` up to the limit.
    pub(crate) async fn within<T>(
        &self,
        doing: &'static str,
        asking: impl Future<Output = T>,
    ) -> Result<T, SetupError> {
        let (server, limit) = (|| self.server(), self.limit);
        let answer = self.clock.within(limit, asking).await;
        answer.ok_or_else(|| SetupError::Unanswered { server: server(), limit, doing })
    }

    fn server(&self) -> String {
        format!("{}:{}", self.uri.authority.host, self.uri.authority.port)
    }
}

impl fmt::Debug for Rabbit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address would show the password.
        let (server, vhost) = (self.server(), &self.uri.vhost);
        f.debug_struct("Rabbit")
            .field("server", &server)
            .field("vhost", vhost)
            .finish_non_exhaustive()
    }
}
