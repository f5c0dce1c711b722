//! The beginning of a limit, and the shortest limit.

use std::time::Duration;

use buttress::{Clock, ErrorKind};
use tower::Layer;

use super::limit;
use crate::support::{AppError, Ask, begin, is_pending, ms, now};

/// Regression: the deadline was taken after the inner `call`, so the time in `call` did not count.
#[tokio::test(start_paused = true)]
async fn the_time_the_inner_call_takes_counts() {
    for (begins, answered) in [(20, true), (21, false)] {
        let inner = tower::service_fn(move |_: Ask| {
            // Advances at its first poll, and then yields once.
            is_pending(&mut Box::pin(tokio::time::advance(ms(begins))));
            async {
                Clock::default().sleep(ms(80)).await;
                Ok::<u32, AppError>(1)
            }
        });
        let mut response = begin(&mut limit(100).layer(inner), Ask(0));
        assert!(is_pending(&mut response));
        tokio::time::advance(ms(100 - begins)).await;
        let result = now(response);
        assert_eq!(result.is_ok(), answered, "after {begins} ms in call");
        assert_eq!(result.err().and_then(|error| error.kind()), {
            (!answered).then_some(ErrorKind::TimedOut)
        });
    }
}

/// Regression: tokio's timers are exact to a millisecond, and a limit of zero was rounded up to
/// one.
#[tokio::test(start_paused = true)]
async fn a_limit_of_zero_lets_only_an_answer_pass_that_is_there_at_once() {
    for micros in [0, 300] {
        tokio::time::advance(Duration::from_micros(micros)).await;
        let layer = limit(1000).per_request(|_: &Ask| Some(Duration::ZERO));
        let inner = |_: Ask| std::future::ready(Ok::<u32, AppError>(1));
        assert_eq!(now(begin(&mut layer.layer(tower::service_fn(inner)), Ask(0))), Ok(1));
        let inner = tower::service_fn(async |_: Ask| {
            tokio::task::yield_now().await;
            Ok::<u32, AppError>(1)
        });
        let error = now(begin(&mut layer.layer(inner), Ask(0))).unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::TimedOut), "{micros} us after a millisecond");
    }
}
