//! [`Limits`]: what the proxy does to protect the service, from the file of `--config`.

use std::path::Path;
use std::time::Duration;

use buttress::retry::Backoff;
use buttress::{bulkhead, circuit_breaker, rate_limit, retry, time_limit};
use serde::Deserialize;
use tower::BoxError;

/// The limits. A key has the form of the [registry](buttress::registry), and replaces the whole default of its part.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Limits {
    /// Default: none. The right rate depends on the service.
    pub rate_limiter: Option<rate_limit::Config>,
    /// Default: none.
    pub bulkhead: Option<bulkhead::Config>,
    /// Default: 5 failures in a row, open for 5 seconds. A child that crashed is back sooner than another machine.
    pub circuit_breaker: circuit_breaker::Config,
    /// Default: 2 attempts, 50 milliseconds apart. Only requests that may be run twice are repeated.
    pub retry: retry::Config,
    /// Default: 10 seconds for all attempts.
    pub time_limiter: time_limit::Config,
}

impl Default for Limits {
    fn default() -> Self {
        let wait = Backoff::fixed(Duration::from_millis(50));
        Self {
            rate_limiter: None,
            bulkhead: None,
            circuit_breaker: circuit_breaker::Config::new()
                .consecutive_failures(5)
                .open_for(Duration::from_secs(5)),
            retry: retry::Config::new().attempts(2).backoff(wait),
            time_limiter: time_limit::Config::new(Duration::from_secs(10)),
        }
    }
}

impl Limits {
    /// Reads a file. An error names the file, and the line if one is wrong.
    pub(crate) fn read(path: &Path) -> Result<Self, BoxError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_the_example_is_read() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/sidecar.toml");
        let limits = Limits::read(Path::new(file)).unwrap();
        assert!(limits.rate_limiter.is_some() && limits.bulkhead.is_some());
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = toml::from_str::<Limits>("retries = { attempts = 2 }").err().unwrap();
        assert!(error.to_string().contains("retries"), "{error}");
    }
}
