//! Messages of a source without a consumer.

use std::time::Duration;

use buttress::Clock;
use buttress_durable::consume::{Batch, Received, Source as _};
use buttress_nats::{Subscription, Token};

/// Receives from a member for up to a minute. A renewal that a busy server answers late is an error that passes, which a
/// consumer would log.
pub(crate) async fn receive(source: &Subscription) -> Batch<Token> {
    let clock = Clock::default();
    let ends = clock.now() + Duration::from_secs(60);
    loop {
        let received = tokio::select! {
            received = source.receive() => received,
            () = clock.sleep_until(ends) => panic!("nothing within a minute"),
        };
        match received {
            Ok(batch) => return batch,
            Err(error) => assert!(error.is_transient() && clock.now() < ends, "{error}"),
        }
    }
}

/// Receives `count` messages. They can come in several batches, and a batch can be empty.
pub(crate) async fn take(source: &Subscription, count: usize) -> Vec<Received<Token>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(receive(source).await.messages);
    }
    assert_eq!(taken.len(), count, "{taken:?}");
    taken
}

pub(crate) fn payloads(messages: &[Received<Token>]) -> Vec<String> {
    messages.iter().map(|read| String::from_utf8_lossy(&read.payload).into_owned()).collect()
}
