//! [`Link`]: one connection to Redis, which is opened when it is needed and replaced after a failure.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buttress::Clock;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisError, Value};

use crate::error::Error;
use crate::script::Script;

/// How many commands wait inside of the process before a caller waits.
const QUEUE: usize = 1024;

/// A connection that all clones share. Commands of concurrent callers are sent without waiting for earlier answers.
#[derive(Clone)]
pub(crate) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    client: redis::Client,
    address: String,
    clock: Clock,
    limit: Duration,
    live: Mutex<Live>,
    /// Held while a connection is opened, so that callers open one and not many.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Live {
    /// The number of the connection. A failure of an older connection leaves the current one alone.
    number: u64,
    connection: Option<MultiplexedConnection>,
}

impl Link {
    pub(crate) fn new(client: redis::Client, clock: Clock, limit: Duration) -> Self {
        let address = client.get_connection_info().addr().to_string();
        let (live, opening) = (Mutex::default(), tokio::sync::Mutex::new(()));
        Self { shared: Arc::new(Shared { client, address, clock, limit, live, opening }) }
    }

    pub(crate) fn limit(&self) -> Duration {
        self.shared.limit
    }

    /// Closes the connection. The next command opens another one.
    pub(crate) fn close(&self) {
        self.with(|live| live.connection = None);
    }

    /// Sends a command, and waits for its answer within the limit, connecting included.
    pub(crate) async fn ask(&self, doing: &'static str, cmd: &Cmd) -> Result<Value, Error> {
        self.ask_within(doing, self.limit(), cmd).await
    }

    pub(crate) async fn ask_within(
        &self,
        doing: &'static str,
        limit: Duration,
        cmd: &Cmd,
    ) -> Result<Value, Error> {
        let asking = |_, mut connection: MultiplexedConnection| async move {
            ok(connection.send_packed_command(cmd).await?)
        };
        self.over(doing, limit, asking).await
    }

    /// Sends commands together: no other command of the connection comes between them. Returns their answers and the
    /// number of the connection. With `on`, returns `None` unless that connection is still the current one.
    pub(crate) async fn ask_all(
        &self,
        doing: &'static str,
        cmds: &Pipeline,
        on: Option<u64>,
    ) -> Result<Option<(u64, Vec<Value>)>, Error> {
        let asking = |number, mut connection: MultiplexedConnection| async move {
            if on.is_some_and(|on| on != number) {
                return Ok(None);
            }
            let answers = connection.send_packed_commands(cmds, 0, cmds.len()).await?;
            let answers = answers.into_iter().map(ok).collect::<Result<_, _>>()?;
            Ok(Some((number, answers)))
        };
        self.over(doing, self.limit(), asking).await
    }

    /// Asks over the current connection, or over a new one.
    async fn over<T, F: Future<Output = Result<T, RedisError>>>(
        &self,
        doing: &'static str,
        limit: Duration,
        ask: impl FnOnce(u64, MultiplexedConnection) -> F,
    ) -> Result<T, Error> {
        let mut number = None;
        let asking = async {
            let (used, connection) = self.connection().await?;
            number = Some(used);
            ask(used, connection).await
        };
        match self.shared.clock.within(limit, asking).await {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => {
                if error.is_unrecoverable_error() || error.is_io_error() {
                    self.forget(number);
                }
                Err(self.error(doing, error))
            }
            None => {
                // A connection that does not answer may never answer again.
                self.forget(number);
                let address = self.shared.address.clone();
                Err(Error::TooSlow { doing, address, limit })
            }
        }
    }

    /// Returns the error for an error of the client or of the server.
    pub(crate) fn error(&self, doing: &'static str, error: RedisError) -> Error {
        Error::of(doing, &self.shared.address, error)
    }

    /// Runs a script.
    pub(crate) async fn run(
        &self,
        doing: &'static str,
        script: &Script,
        fill: impl Fn(&mut Cmd),
    ) -> Result<Value, Error> {
        let answer = self.ask(doing, &script.by_hash(&fill)).await;
        match answer {
            // Redis forgets scripts when it restarts.
            Err(error) if error.has_code("NOSCRIPT") => self.ask(doing, &script.whole(&fill)).await,
            answer => answer,
        }
    }

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), RedisError> {
        if let Some(live) = self.live() {
            return Ok(live);
        }
        let _opening = self.shared.opening.lock().await;
        if let Some(live) = self.live() {
            return Ok(live);
        }
        // The callers have their own limits, by the clock of the program.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        let client = &self.shared.client;
        let opened = client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(self.with(|live| {
            live.number += 1;
            live.connection = Some(opened.clone());
            (live.number, opened)
        }))
    }

    fn live(&self) -> Option<(u64, MultiplexedConnection)> {
        self.with(|live| Some((live.number, live.connection.clone()?)))
    }

    fn forget(&self, number: Option<u64>) {
        self.with(|live| {
            if number == Some(live.number) {
                live.connection = None;
            }
        });
    }

    fn with<T>(&self, f: impl FnOnce(&mut Live) -> T) -> T {
        f(&mut self.shared.live.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

fn ok(answer: Value) -> Result<Value, RedisError> {
    match answer {
        Value::ServerError(error) => Err(error.into()),
        value => Ok(value),
    }
}
