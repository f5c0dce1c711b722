//! Patterns with one instance per key.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use crate::machinery::key_map::{Full, KeyMap, check_max_keys};
use crate::machinery::keyed::{KeyedHandle, PerKey};
use crate::machinery::reconfigure::{HasHandle, Reconfigure};
use crate::sync::{Mutex, lock};
use crate::vocabulary::error::Error;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::name::Name;
use crate::vocabulary::observe::Common;

/// A pattern whose state exists once per key.
pub trait Instance: Reconfigure + HasHandle + Sized {
    /// Counters and reports of all keys of a layer.
    type Telemetry: Telemetry;
    /// The right to make one call.
    type Pass;

    /// Creates an instance with rules that were checked.
    fn with_telemetry(config: &Arc<Self::Config>, telemetry: &Arc<Self::Telemetry>) -> Arc<Self>;
    /// Returns `true` if a new instance would behave like this one. No call and no handle holds
    /// this instance.
    fn is_at_rest(&self) -> bool;
    /// Begins a call.
    ///
    /// # Errors
    /// Returns the refusal. It has been counted and reported.
    fn begin(self: &Arc<Self>) -> Result<Self::Pass, Error>;
    /// Returns `config` with the name, clock and observer of the layer.
    fn named(config: &Self::Config, telemetry: &Self::Telemetry) -> Self::Config;
}

/// The counters and reports of all keys of a layer.
pub trait Telemetry {
    /// Returns the name, clock and observer of the layer.
    fn common(&self) -> &Common;
    /// Counts the refusal of a key without a place.
    fn count_too_many_keys(&self);
}

/// Makes the [`Telemetry`] of a pattern, and the numbers of its keyed handle. The text says why a
/// call of a key that has a place is refused. Behind it are the numbers that only this pattern has,
/// and those that exist if the layer counts its calls, each with its counter.
macro_rules! numbers_of_keys {
    (
        $(#[$meta:meta])+
        refused: $why:literal,
        $($(#[$doc:meta])+ $field:ident: u64 = $counter:ident,)*
        counted: $($(#[$counted_doc:meta])+ $counted:ident = $counted_by:ident,)+
    ) => {
        $crate::machinery::keyed::keyed_stats! {
            $(#[$meta])+
            refused: $why
            $($(#[$doc])+ pub $field: u64,)*
            $($(#[$counted_doc])+ pub $counted: Option<u64>,)+
        }

        impl<K> KeyedHandle<K> {
            /// Returns a snapshot of the statistics.
            #[must_use]
            pub fn stats(&self) -> KeyedStats {
                let Telemetry { counters, common, .. } = self.keys.telemetry();
                let counted = |which| common.count_calls.then(|| counters.sum(which));
                KeyedStats {
                    keys: self.keys.keys(),
                    max_keys: self.keys.max_keys(),
                    refused: counters.sum(Counter::Refused),
                    too_many_keys: counters.sum(Counter::TooManyKeys),
                    $($field: counters.sum(Counter::$counter),)*
                    $($counted: counted(Counter::$counted_by),)+
                }
            }

            pub(super) fn common(&self) -> &Common {
                &self.keys.telemetry().common
            }
        }

        impl $crate::machinery::instances::Telemetry for Telemetry {
            fn common(&self) -> &Common {
                &self.common
            }

            fn count_too_many_keys(&self) {
                self.counters.add(Counter::TooManyKeys);
            }
        }
    };
}
pub(crate) use numbers_of_keys;

/// The instances of all keys of a layer.
pub struct Instances<K, N: Instance> {
    /// Every instance uses the rules in force.
    by_key: KeyMap<K, Arc<N>, Arc<N::Config>>,
    /// The newest rules. The lock is held during a change, so that changes run one after another.
    rules: Mutex<Arc<N::Config>>,
    telemetry: Arc<N::Telemetry>,
}

impl<K: Hash + Eq + Clone, N: Instance> Instances<K, N> {
    /// `config` must have been checked.
    pub(crate) fn new(
        config: N::Config,
        max_keys: usize,
        telemetry: Arc<N::Telemetry>,
    ) -> Result<Arc<Self>, InvalidConfig> {
        check_max_keys(max_keys)?;
        let rules = Arc::new(config);
        let by_key = KeyMap::new(max_keys, rules.clone());
        Ok(Arc::new(Self { by_key, rules: Mutex::new(rules), telemetry }))
    }

    /// Begins a call to `key`.
    pub(crate) fn begin(&self, key: &K) -> Result<N::Pass, Error> {
        self.of(key)?.begin()
    }

    fn of(&self, key: &K) -> Result<Arc<N>, Error> {
        let make = |config: &Arc<N::Config>| N::with_telemetry(config, &self.telemetry);
        // No call and no handle holds the instance, only the map does.
        let at_rest = |_: &Arc<N::Config>, instance: &Arc<N>| {
            Arc::strong_count(instance) == 1 && instance.is_at_rest()
        };
        let found = self.by_key.with(key, make, at_rest, |_, instance| instance.clone());
        found.map_err(|Full| self.too_many_keys())
    }
}

impl<K, N: Instance> Instances<K, N> {
    /// The refusal of a key that has no place, counted and reported.
    fn too_many_keys(&self) -> Error {
        let common = self.telemetry.common();
        self.telemetry.count_too_many_keys();
        let error = Error::too_many_keys(common.name, self.by_key.max_keys() as u32);
        common.refused(|| error.clone());
        error
    }

    pub(crate) fn telemetry(&self) -> &N::Telemetry {
        &self.telemetry
    }
}

impl<K, N: Instance> PerKey for Instances<K, N> {
    type Key = K;
    type Pass = N::Pass;

    fn name(&self) -> Name {
        self.telemetry.common().name
    }

    fn keys(&self) -> usize {
        self.by_key.len()
    }

    fn max_keys(&self) -> usize {
        self.by_key.max_keys()
    }
}

impl<K: Hash + Eq + Clone, N: Instance> KeyedHandle<Instances<K, N>> {
    /// Admits a call to `key`, or refuses it without waiting.
    ///
    /// # Errors
    /// Returns the refusal of the key's own bulkhead or circuit: [`BulkheadFull`](crate::ErrorKind::BulkheadFull) or
    /// [`CircuitOpen`](crate::ErrorKind::CircuitOpen). Returns [`TooManyKeys`](crate::ErrorKind::TooManyKeys) if there
    /// is no place for a new key.
    pub fn try_acquire(&self, key: &K) -> Result<N::Pass, Error> {
        self.keys.begin(key)
    }

    /// Returns the handle of one key. `None` if the key is not held.
    ///
    /// The layer keeps a key as long as a handle of the key exists. Each key has its own state. All
    /// keys share the counters of the handle.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<N::Handle> {
        self.keys.by_key.peek(key, |_, instance| instance.handle())
    }

    /// Returns the rules in force, with the name, clock and observer that the layer was made with.
    #[must_use]
    pub fn config(&self) -> N::Config {
        let rules = lock(&self.keys.rules).clone();
        N::named(&rules, &self.keys.telemetry)
    }

    /// Replaces the rules of every key, current and future, with the rules of `config`. The keys
    /// keep their states. The duration grows with the number of keys.
    ///
    /// # Errors
    /// Returns the errors of the layer's constructor, and an error for a change of the kind or size of a circuit's
    /// window. Nothing changes then.
    pub fn reconfigure(&self, config: &N::Config) -> Result<(), InvalidConfig> {
        let keys = &*self.keys;
        let mut rules = lock(&keys.rules);
        N::accepts(&rules, config)?;
        *rules = Arc::new(N::named(config, &keys.telemetry));
        let mut changed = Vec::new();
        keys.by_key.change(&rules, |_, instance| {
            instance.apply(config);
            changed.push(instance.clone());
        });
        drop(rules);
        // Outside of every lock, because a wake can run any code.
        changed.iter().for_each(|instance| instance.serve());
        keys.telemetry.common().reconfigured();
        Ok(())
    }
}

impl<K, N: Instance> fmt::Debug for Instances<K, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instances").field("keys", &self.by_key).finish_non_exhaustive()
    }
}
