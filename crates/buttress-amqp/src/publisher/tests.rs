use std::time::Duration;

use buttress::Clock;

use super::driver::largest;
use super::shared::{Refusal, Ticket};
use crate::error::SetupError;

#[test]
fn a_message_is_sent_or_given_up_and_never_both() {
    let ticket = Ticket::default();
    assert!(ticket.send() && ticket.clone().send() && !ticket.give_up());
    let ticket = Ticket::default();
    assert!(ticket.give_up() && !ticket.send());
}

#[test]
fn the_limit_of_the_server_is_read() {
    let text = "PRECONDITION_FAILED - message size 17 is larger than configured max size 16";
    assert_eq!(largest(text), Some(16));
    assert_eq!(
        largest("protocol error: message size 17 is larger than configured max size 16."),
        Some(16)
    );
    assert_eq!(largest("PRECONDITION_FAILED - unknown delivery tag 7"), None);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_lasts_is_asked_for_after_growing_waits() {
    let (mut refusal, mut now) = (Refusal::default(), Clock::default().now());
    assert!(refusal.answer(now).is_none());
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        refusal.failed(SetupError::Missing { name: "orders".to_owned() }, now);
        now += Duration::from_secs(seconds) - Duration::from_nanos(1);
        assert!(matches!(refusal.answer(now), Some(SetupError::Missing { .. })), "{seconds}");
        now += Duration::from_nanos(1);
        assert!(refusal.answer(now).is_none(), "{seconds}");
    }
}
