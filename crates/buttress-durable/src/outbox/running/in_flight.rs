//! The deliveries in flight.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use super::ownership::{May, Ownership};
use crate::outbox::deliver::Finished;
use crate::outbox::state::{Delivery, Pending};
use crate::outbox::store::Lease;
use crate::unordered::Unordered;
use buttress::Clock;

pub(super) type InFlight = Unordered<Pin<Box<dyn Future<Output = Ending> + Send>>>;

/// How a delivery in flight ended.
#[derive(Debug)]
pub(super) enum Ending {
    Finished(Finished),
    /// Its partition went to another relay, so the delivery was dropped.
    Revoked(Delivery),
}

/// Runs `publishing` for as long as the relay owns the partition. Pauses it while the lease has
/// lapsed: a process that was paused must not publish a message that another relay has delivered
/// since.
pub(super) async fn owned(
    publishing: impl Future<Output = Finished>,
    delivery: Delivery,
    lease: Lease,
    ownership: Arc<Ownership>,
    clock: Clock,
) -> Ending {
    let mut publishing = pin!(publishing);
    let mut delivery = Some(delivery);
    poll_fn(|cx| match ownership.may(lease, clock.now()) {
        May::Go => publishing.as_mut().poll(cx).map(Ending::Finished),
        // The relay wakes all deliveries when the store has answered.
        May::Wait => Poll::Pending,
        May::Never => match delivery.take() {
            Some(delivery) => Poll::Ready(Ending::Revoked(delivery)),
            // The block around this future ends with the first answer.
            None => unreachable!("`owned` polled after completion"),
        },
    })
    .await
}

/// Takes in deliveries that have ended, and returns whether there were any.
pub(super) fn poll_in_flight(
    in_flight: &mut InFlight,
    pending: &mut Pending,
    cx: &mut Context<'_>,
) -> bool {
    let mut any = false;
    while let Poll::Ready(ending) = in_flight.poll_next(cx) {
        match ending {
            Ending::Finished(it) => pending.ended(it.delivery, it.lease, it.verdict),
            Ending::Revoked(delivery) => pending.abandoned(&delivery),
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
