//! [`Settings`]: the time limits and sizes that the stores of both databases have.

use std::time::Duration;

use buttress::{InvalidConfig, Spawner};

/// The common part of a configuration. The setters of the configuration say what each field means.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub acquire_timeout: Duration,
    pub operation_timeout: Duration,
    pub connections: u32,
    pub partitions: Option<u16>,
    #[cfg(feature = "idempotency")]
    pub results: Option<u64>,
    #[cfg(any(feature = "saga", feature = "outbox"))]
    pub keep_receipts: Option<Duration>,
    pub queue: usize,
    pub batch_rows: usize,
    pub spawner: Spawner,
}

impl Settings {
    pub(crate) fn new(connections: u32, batch_rows: usize) -> Self {
        Self {
            acquire_timeout: Duration::from_secs(10),
            operation_timeout: Duration::from_secs(15),
            connections,
            partitions: None,
            #[cfg(feature = "idempotency")]
            results: None,
            #[cfg(any(feature = "saga", feature = "outbox"))]
            keep_receipts: crate::receipts::KEPT,
            queue: 1024,
            batch_rows,
            spawner: Spawner::default(),
        }
    }

    /// Refuses numbers of zero, and time limits, also the `others`, that are below `least` or above
    /// one hour.
    pub(crate) fn check(
        &self,
        others: &[(&str, Duration)],
        (least, bound): (Duration, &str),
    ) -> Result<(), InvalidConfig> {
        let own = [
            ("acquire-timeout", self.acquire_timeout),
            ("operation-timeout", self.operation_timeout),
        ];
        for (field, value) in others.iter().chain(&own) {
            if *value < least || *value > Duration::from_secs(3600) {
                return Err(InvalidConfig::new(*field, format!("{value:?}"), bound));
            }
        }
        let counts = [
            ("connections", self.connections as usize),
            ("queue", self.queue),
            ("batch-rows", self.batch_rows),
            #[cfg(feature = "idempotency")]
            ("results", self.results.map_or(1, |most| usize::try_from(most).unwrap_or(usize::MAX))),
        ];
        for (field, value) in counts {
            if value == 0 {
                return Err(InvalidConfig::new(field, value, "at least 1"));
            }
        }
        #[cfg(any(feature = "saga", feature = "outbox"))]
        crate::receipts::check(self.keep_receipts)?;
        crate::partitions::check(self.partitions)
    }
}

pub(crate) use buttress::__setters as setters;

/// The setters that both configurations have with the same meaning.
macro_rules! common_setters {
    () => {
        $crate::settings::setters! {
            /// Sets the number of partitions of the outbox, which is the most relays that can share
            /// the work. Default: 16. Between 1 and 128.
            ///
            /// The number is fixed when the tables are created, also by a store without the part
            /// `outbox`. A store that is opened later refuses another number.
            partitions(partitions: u16) sets settings.partitions => Some(partitions);

            /// Sets how many results of idempotency keys the store keeps. Default: no limit. At
            /// least 1.
            ///
            /// If the store holds more results, a sweep removes the surplus. It takes them from the
            /// scopes with the most results, earliest expiry first. The sweep never removes claims
            /// in flight. If each caller has its own scope, a caller with many keys loses its own
            /// results first. Callers that share a scope lose each other's results. A key whose
            /// result was removed runs **again**, so prefer short lifetimes of results to bound the
            /// database.
            #[cfg(feature = "idempotency")]
            results(most: u64) sets settings.results => Some(most);

            /// Sets how long the store keeps receipts of the
            /// [inbox](buttress_durable::outbox::Inbox), and records of the
            /// [barrier](buttress_durable::saga::Barrier). Default: 30 days. `None` keeps them
            /// forever. At least 1 second. The store removes older ones in the background.
            ///
            /// A message that is delivered again after this time runs again. An action of a saga that
            /// is called again after this time runs again too. Keep receipts for longer than any sender
            /// repeats. For a relay, that is
            /// [`Config::longest_retry`](buttress_durable::outbox::Config::longest_retry) plus the
            /// longest time that a dead letter waits before an operator requeues it.
            #[cfg(any(feature = "saga", feature = "outbox"))]
            keep_receipts(time: impl Into<Option<Duration>>) sets settings.keep_receipts => time.into();

            /// Sets where the tasks of the store run. Default: `tokio::spawn`. sqlx needs a tokio
            /// runtime in any case.
            spawner(spawner: buttress::Spawner) sets settings.spawner;
        }
    };
}
pub(crate) use common_setters;
