//! The deliveries in flight.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::ownership::{May, Ownership};
use crate::caught::caught;
use crate::outbox::state::{Delivery, Pending};
use crate::outbox::store::{Lease, Verdict};
use crate::unordered::Unordered;
use buttress::Clock;

pub(super) type InFlight = Unordered<dyn Future<Output = Ending> + Send>;

/// A delivery in flight that ended.
#[derive(Debug)]
pub(super) struct Ending {
    delivery: Delivery,
    lease: Lease,
    /// `None` if its partition went to another relay, so the delivery was dropped.
    verdict: Option<Verdict>,
}

/// Runs `publishing` for as long as the relay owns the partition. Pauses it while the lease has
/// lapsed: a process that was paused must not publish a message that another relay has delivered
/// since.
pub(super) async fn owned(
    publishing: impl Future<Output = Verdict>,
    delivery: Delivery,
    lease: Lease,
    ownership: Arc<Ownership>,
    clock: Clock,
) -> Ending {
    let mut publishing = pin!(Some(publishing));
    let ended = poll_fn(|cx| match ownership.may(lease, clock.now()) {
        May::Go => match publishing.as_mut().as_pin_mut() {
            Some(publishing) => publishing.poll(cx).map(Some),
            // The block around this future ends with the first answer.
            None => unreachable!("`owned` polled after completion"),
        },
        // The relay wakes all deliveries when the store has answered.
        May::Wait => Poll::Pending,
        May::Never => Poll::Ready(None),
    });
    let verdict = ended.await;
    // The future of the publisher may panic when it is dropped.
    let _panic = caught(|| publishing.set(None));
    Ending { delivery, lease, verdict }
}

/// Takes in deliveries that have ended, and returns whether there were any.
pub(super) fn poll_in_flight(
    in_flight: &mut InFlight,
    pending: &mut Pending,
    cx: &mut Context<'_>,
) -> bool {
    let mut any = false;
    while let Poll::Ready(ending) = in_flight.poll_next(cx) {
        let Ending { delivery, lease, verdict } = ending;
        match verdict {
            Some(verdict) => pending.ended(delivery, lease, verdict),
            None => pending.abandoned(&delivery),
        }
        any = true;
    }
    any
}

/// Takes in deliveries that ended at their first poll.
pub(super) fn collect(in_flight: &mut InFlight, pending: &mut Pending) {
    // The next wait polls the others again, with a waker.
    poll_in_flight(in_flight, pending, &mut Context::from_waker(std::task::Waker::noop()));
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use crate::outbox::message::{Message, MessageId, NewMessage};

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "a future panics when it is dropped");
        }
    }

    /// The panic once ended the relay.
    #[tokio::test(start_paused = true)]
    async fn a_delivery_that_panics_when_it_is_revoked_ends_as_revoked() {
        let clock = Clock::default();
        let new = NewMessage::new(MessageId::new(1), "a", "paid");
        let delivery = Delivery::of(&Message::new(new, 1, 3, std::time::Duration::ZERO));
        let bomb = Bomb;
        let publishing = async move {
            let _bomb = bomb;
            std::future::pending::<Verdict>().await
        };
        // It owns nothing.
        let ownership = Arc::new(Ownership::new(clock.now()));
        let lease = Lease::new(3, 1);
        let ending = owned(publishing, delivery.clone(), lease, ownership, clock).await;
        assert_eq!((ending.delivery, ending.verdict), (delivery, None));
    }
}
