//! The fields of configurations, and their by-value setters, each of which sets the field with the same name.

pub(crate) use buttress::{__setters as setters, __settings as settings};

/// The settings that every executor and relay needs besides its own rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Common {
    pub name: buttress::Name,
    pub clock: buttress::Clock,
    pub rng: buttress::Rng,
    pub spawner: buttress::Spawner,
}

impl Common {
    /// Refuses another clock than the clock of the run in a simulation. `part` is the name in the error.
    pub(crate) fn check_clock(&self, part: &str) {
        buttress::__simulated::check_clock(part, &self.clock);
    }

    /// Adds the configured name to an error of the configuration.
    pub(crate) fn named<T>(
        &self,
        checked: Result<T, buttress::InvalidConfig>,
    ) -> Result<T, buttress::InvalidConfig> {
        checked.map_err(|error| error.of_layer(self.name.as_str()))
    }
}

/// The setters of [`Common`]. `$unnamed` is the name in logs and metrics of an executor or relay
/// without a name, and `$runs` says what runs on the spawner.
macro_rules! common_setters {
    ($unnamed:literal, $runs:literal) => {
        /// Returns the name in logs and metrics. A part without a name has a default one.
        pub(super) fn layer(&self) -> buttress::Name {
            let name = self.common.name;
            if name.as_str().is_empty() { buttress::Name::from($unnamed) } else { name }
        }

        $crate::setters::setters! {
            #[doc = concat!("Sets the name in logs and metrics. Default: \"", $unnamed, "\".")]
            name(name: impl Into<buttress::Name>) sets common.name => name.into();

            /// Sets the clock. Default: tokio's clock.
            clock(clock: buttress::Clock) sets common.clock;

            /// Sets the source of random ids and jitter. Default: a source with a different seed in every
            /// process.
            rng(rng: buttress::Rng) sets common.rng;

            #[doc = concat!("Sets where ", $runs, ".")]
            /// Default: `tokio::spawn`.
            spawner(spawner: buttress::Spawner) sets common.spawner;
        }
    };
}
pub(crate) use common_setters;

/// The setter of attempts and waits, kept in the fields `attempts` and `backoff`.
macro_rules! retry_setter {
    ($(#[$doc:meta])+) => {
        $(#[$doc])+
        pub fn retry(mut self, attempts: u32, backoff: buttress::retry::Backoff) -> Self {
            self.attempts = attempts;
            self.backoff = backoff;
            self
        }
    };
}
pub(crate) use retry_setter;

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::time::Duration;

    use buttress::{Clock, InvalidConfig, Name};
    use tower::{BoxError, service_fn};

    use crate::bus::{Bus, Pattern, Subscribe};
    use crate::event_store::{self, Batch, Log, Projection};
    use crate::saga::{self, Definition, Executor};
    use crate::{consume, outbox};

    /// Returns the error of each kind of configuration with this name.
    fn errors(name: &'static str) -> [InvalidConfig; 5] {
        let (name, zero) = (Name::from(name), Duration::ZERO);
        let source = Bus::new().subscribe("billing", Subscribe::new(Pattern::all())).unwrap();
        let handler = service_fn(async |_: consume::Delivery| Ok::<(), BoxError>(()));
        let consumer = consume::Config::new().name(name).concurrency(0);
        let consumer = consume::Consumer::new(source, handler, consumer).unwrap_err();

        let store =
            outbox::MemoryStore::new(Clock::default()).keep_receipts(Duration::from_secs(1));
        let outbox = outbox::Outbox::new(store);
        let publisher = service_fn(async |_: outbox::Message| Ok::<(), BoxError>(()));
        let relay = |config| outbox::Relay::new(&outbox, publisher, config).unwrap_err();
        let batch = relay(outbox::Config::new().name(name).batch(0));
        let receipts = relay(outbox::Config::new().name(name));

        let log = Log::new(event_store::MemoryStore::new(Clock::default()));
        let handler = service_fn(async |batch: Batch<()>| Ok::<_, BoxError>(batch));
        let projected = event_store::Config::new().name(name).lease(zero);
        let projected = Projection::new("list", &log, handler, projected).unwrap_err();

        let mut order = Definition::<u32>::builder("order", 1);
        order.step("rest").wait(|_, ()| Duration::ZERO);
        let executor = saga::Config::new().name(name).max_resumed(0);
        let executor = Executor::in_memory(order.build().unwrap(), executor).unwrap_err();
        [consumer, batch, receipts, executor, projected]
    }

    #[test]
    fn an_error_names_its_configuration() {
        for error in errors("orders") {
            assert_eq!(error.layer(), Some("orders"), "{error}");
            assert!(error.to_string().starts_with(&format!("\"orders\": {}: ", error.field())));
        }
        let [unnamed @ .., projection] = errors("");
        for error in unnamed {
            assert_eq!(error.layer(), None, "{error}");
        }
        assert_eq!(projection.layer(), Some("list"));
    }
}
