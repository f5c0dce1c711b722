//! The form of a retry in a document.

use std::time::Duration;

use super::backoff::{Backoff, Jitter};
use super::config::{Config, Policy};
use crate::vocabulary::duration_text;

/// The keys of a retry in a document. They have the defaults of [`Config`].
#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RetryDocument {
    attempts: u32,
    #[serde(with = "duration_text")]
    base_delay: Duration,
    factor: f64,
    #[serde(with = "duration_text")]
    max_delay: Duration,
    jitter: JitterName,
    jitter_fraction: f64,
    #[serde(deserialize_with = "duration_text::optional")]
    total_time: Option<Duration>,
    #[serde(with = "duration_text")]
    max_hint: Duration,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum JitterName {
    None,
    Fraction,
    Full,
    Equal,
    Decorrelated,
}

impl Default for RetryDocument {
    fn default() -> Self {
        let Policy { attempts, backoff, total_time, max_hint } = Config::default().policy;
        Self {
            attempts,
            base_delay: backoff.base,
            factor: backoff.factor,
            max_delay: backoff.cap.unwrap_or(backoff.base),
            jitter: JitterName::Full,
            jitter_fraction: 0.5,
            total_time,
            max_hint,
        }
    }
}

impl From<RetryDocument> for Config {
    fn from(document: RetryDocument) -> Self {
        let jitter = match document.jitter {
            JitterName::None => Jitter::None,
            JitterName::Fraction => Jitter::Fraction(document.jitter_fraction),
            JitterName::Full => Jitter::Full,
            JitterName::Equal => Jitter::Equal,
            JitterName::Decorrelated => Jitter::Decorrelated,
        };
        let backoff = Backoff::exponential(document.base_delay)
            .factor(document.factor)
            .cap(document.max_delay)
            .jitter(jitter);
        let mut config = Self::new().attempts(document.attempts).backoff(backoff);
        config.policy.total_time = document.total_time;
        config.max_hint(document.max_hint)
    }
}
