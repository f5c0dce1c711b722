use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, Error};

use crate::{bulkhead, circuit_breaker, rate_limit, retry, time_limit};

/// The configuration of named instances, read from any serde format: the section that is called
/// `resilience` in the guide, or a whole file whose only section it is.
///
/// Keys that are missing have their defaults; names and keys that do not exist, and values that cannot
/// be, are errors with their path.
#[derive(Clone, Debug, Default)]
pub struct Document {
    pub(super) patterns: Patterns,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Patterns {
    pub(super) bulkhead: BTreeMap<String, bulkhead::Config>,
    pub(super) circuit_breaker: BTreeMap<String, circuit_breaker::Config>,
    pub(super) rate_limiter: BTreeMap<String, rate_limit::Config>,
    pub(super) retry: BTreeMap<String, retry::Config>,
    pub(super) time_limiter: BTreeMap<String, time_limit::Config>,
}

/// A whole file: the patterns under `resilience`, or at the top.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    resilience: Option<Patterns>,
    #[serde(default)]
    bulkhead: BTreeMap<String, bulkhead::Config>,
    #[serde(default)]
    circuit_breaker: BTreeMap<String, circuit_breaker::Config>,
    #[serde(default)]
    rate_limiter: BTreeMap<String, rate_limit::Config>,
    #[serde(default)]
    retry: BTreeMap<String, retry::Config>,
    #[serde(default)]
    time_limiter: BTreeMap<String, time_limit::Config>,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file: File = serde_path_to_error::deserialize(deserializer).map_err(|error| {
            D::Error::custom(format_args!("{}: {}", error.path(), error.inner()))
        })?;
        let File { resilience, bulkhead, circuit_breaker, rate_limiter, retry, time_limiter } =
            file;
        let top = Patterns { bulkhead, circuit_breaker, rate_limiter, retry, time_limiter };
        match resilience {
            None => Ok(Self { patterns: top }),
            Some(patterns) if top.is_empty() => Ok(Self { patterns }),
            Some(_) => Err(D::Error::custom(
                "patterns stand both under `resilience` and beside it; put all of them under it",
            )),
        }
    }
}

impl Patterns {
    fn is_empty(&self) -> bool {
        self.bulkhead.is_empty()
            && self.circuit_breaker.is_empty()
            && self.rate_limiter.is_empty()
            && self.retry.is_empty()
            && self.time_limiter.is_empty()
    }
}
