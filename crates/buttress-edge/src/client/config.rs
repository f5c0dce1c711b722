//! The configuration of a client.

use std::time::Duration;

use buttress::__setters as setters;
use buttress::{Clock, InvalidConfig, circuit_breaker, retry};

/// The configuration of a [`ServiceClient`](super::ServiceClient).
///
/// | limit | default | reason |
/// |---|---|---|
/// | [`time_limit`](Self::time_limit) | 12 s | two attempts that use their whole time, and the wait between them |
/// | [`attempt_limit`](Self::attempt_limit) | 5 s | an answer after 5 s is of no use to most callers |
/// | [`connect_limit`](Self::connect_limit) | 2 s, at most the attempt's | a connection takes milliseconds, or a lost packet's second |
/// | [`retry`](Self::retry) | 3 attempts; at most 20 % more requests, and 30 in any 10 s | one failure in a row is common, three are an outage |
/// | [`circuit_breaker`](Self::circuit_breaker) | open for 30 s after 5 failures in a row | |
#[derive(Clone, Debug)]
#[must_use]
pub struct Config {
    forwarding: crate::Config,
    /// `None`: the default, or the time limit of an attempt if that is shorter.
    connect: Option<Duration>,
    pub(super) total: Duration,
    pub(super) retry: Option<retry::Config>,
    pub(super) circuit: Option<circuit_breaker::Config>,
    pub(super) replay_buffer: usize,
    pub(super) max_body: usize,
}

/// The bounds of an answer that the client reads to its end.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub max_body: usize,
    /// The time limit of the request.
    pub limit: Duration,
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// Creates the default configuration.
    pub fn new() -> Self {
        Self {
            forwarding: crate::Config::new().head_limit(Duration::from_secs(5)),
            connect: None,
            total: Duration::from_secs(12),
            retry: Some(retry::Config::new().attempts(3)),
            circuit: Some(circuit_breaker::Config::new().consecutive_failures(5)),
            replay_buffer: 64 * 1024,
            max_body: 10 * 1024 * 1024,
        }
    }

    setters! {
        /// Sets the time for all attempts and the waits between them, up to the head of the answer. An earlier deadline
        /// of the [context](buttress::context) counts. [`bytes`](super::ClientRequest::bytes) and `json` read the body
        /// within the same time. Default: 12 s.
        time_limit(limit: Duration) sets total;

        /// Sets the time for an attempt, up to the head of its answer. While the service reads the body of the request,
        /// the time begins again with each part. Default: 5 s.
        attempt_limit(limit: Duration) sets forwarding.head;

        /// Sets the time for a connection. Default: 2 s, or the time for an attempt if that is shorter.
        connect_limit(limit: Duration) sets connect => Some(limit);

        /// Sets the longest time between two parts of a body. Default: 60 s.
        idle_limit(limit: Duration) sets forwarding.idle;

        /// Sets how many idle connections are kept for an endpoint. Default: 32.
        pool_size(connections: usize) sets forwarding.pool_size;

        /// Sets how long an idle connection is kept. It should be below the time of the server. Default: 15 s.
        pool_idle_limit(limit: Duration) sets forwarding.pool_idle;

        /// Sets which requests are sent again, and when. Only a request that may be run twice is: its method is
        /// idempotent, or it has an `Idempotency-Key`. Without a [budget](retry::Config::budget) the client adds at
        /// most a fifth of its requests, and 30 in any 10 s. Default: 3 attempts.
        retry(retry: retry::Config) => Some(retry);

        /// Sets the circuit breaker around all attempts of a request: it counts each request once, by its last answer.
        /// Default: open for 30 s after 5 failures in a row.
        circuit_breaker(circuit: circuit_breaker::Config) sets circuit => Some(circuit);

        /// Sets the longest body of a request that is kept to be sent again, in bytes. Default: 64 KiB.
        replay_buffer(bytes: usize);

        /// Sets the longest body that [`bytes`](super::ClientRequest::bytes) reads, in bytes. Default: 10 MiB.
        max_body(bytes: usize);

        /// Sets the authorities that vouch for a service behind `https`. Default: the authorities of the operating
        /// system.
        #[cfg(feature = "tls")]
        #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
        roots(roots: crate::Roots) sets forwarding.roots => Some(roots);

        /// Sets the clock of all limits. Default: tokio's.
        clock(clock: Clock) sets forwarding.clock;
    }

    /// Sends each request once. A request that was not sent still goes to another endpoint.
    pub fn no_retry(mut self) -> Self {
        self.retry = None;
        self
    }

    /// Removes the circuit breaker.
    pub fn no_circuit_breaker(mut self) -> Self {
        self.circuit = None;
        self
    }

    /// How answers are read.
    pub(super) fn reading(&self) -> Reading {
        let Self { total, max_body, .. } = *self;
        Reading { max_body, limit: total, clock: self.forwarding.clock.clone() }
    }

    /// The configuration of an attempt.
    pub(super) fn forwarding(&self) -> crate::Config {
        let attempt = self.forwarding.head;
        let connect = self.connect.unwrap_or_else(|| self.forwarding.connect.min(attempt));
        self.forwarding.clone().connect_limit(connect)
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        let attempt = self.forwarding.head;
        for (field, limit) in [("attempt-limit", attempt), ("time-limit", self.total)] {
            if limit.is_zero() {
                return Err(InvalidConfig::new(field, "0s", "longer than zero"));
            }
        }
        if let Some(connect) = self.connect.filter(|connect| *connect > attempt) {
            let bound = format!("at most the attempt limit, {attempt:?}");
            return Err(InvalidConfig::new("connect-limit", format!("{connect:?}"), bound));
        }
        self.forwarding().check()
    }
}
