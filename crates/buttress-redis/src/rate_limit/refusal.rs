//! The error of a refused call.

use std::time::Duration;

use buttress::rate_limit::{Config as Core, RateLimitLayer};
use buttress::{Error, VirtualClock};

use super::config::Config;

/// Returns the error of a limiter of this configuration whose tokens are refilled after `wait`.
///
/// Only a limiter of `buttress` makes this error, and every layer, classifier and response knows it. So a limiter with
/// a separate clock is brought into the state that the bucket in Redis has.
pub(super) fn refusal(config: &Config, wait: Option<Duration>) -> Option<Error> {
    let time = VirtualClock::new();
    let core = Core::new()
        .name(config.name.as_str())
        .max_tokens(config.max_tokens)
        .refill(config.refill_tokens, config.refill_period)
        .clock(time.clock());
    let handle = RateLimitLayer::new(core).ok()?.handle();
    let Some(wait) = wait else {
        return handle.try_acquire(config.max_tokens.saturating_add(1)).err();
    };
    let wait = wait.max(Duration::from_nanos(1));
    handle.try_acquire(config.max_tokens).ok()?;
    let (period, refill) = (config.refill_period.as_nanos(), u128::from(config.refill_tokens));
    let tokens = (wait.as_nanos() * refill).div_ceil(period).max(1);
    let tokens = u32::try_from(tokens).unwrap_or(u32::MAX).min(config.max_tokens);
    let all = u64::try_from(u128::from(tokens) * period / refill).unwrap_or(u64::MAX);
    time.advance(Duration::from_nanos(all).saturating_sub(wait));
    // If rounding has brought the tokens back by now, they are taken, and the next one is not there.
    handle.try_acquire(tokens).err().or_else(|| handle.try_acquire(1).err())
}

#[cfg(test)]
mod tests {
    use super::*;
    use buttress::ErrorKind;

    #[test]
    fn it_names_the_limiter_the_rate_and_the_time() {
        let config = Config::new("search").max_tokens(5).refill(2, Duration::from_secs(1));
        for wait in [1, 250, 499, 500, 501, 1300, 2500] {
            let wait = Duration::from_millis(wait);
            let error = refusal(&config, Some(wait)).unwrap();
            assert_eq!(error.kind(), ErrorKind::RateLimited);
            assert_eq!((error.layer(), error.retry_after()), ("search", Some(wait)));
            assert!(error.never_reached_service());
        }
        for (tokens, refill) in [(1, 1), (1, 7), (u32::MAX, 999_983)] {
            let config = Config::new("a").max_tokens(tokens).refill(refill, Duration::from_secs(1));
            for nanos in [0, 1, 2, 999, 142_857, 1_000_000] {
                let wait = Duration::from_nanos(nanos);
                let found = refusal(&config, Some(wait)).unwrap().retry_after().unwrap();
                assert!(
                    found.abs_diff(wait) <= Duration::from_secs(1) / refill,
                    "{wait:?}: {found:?}"
                );
            }
        }
        let error = refusal(&config, None).unwrap();
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, None));
        assert!(error.to_string().contains("2 per second"), "{error}");
    }
}
