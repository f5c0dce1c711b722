//! The deliveries that are under way.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use super::standing::{May, Standing};
use crate::outbox::deliver::Delivery;
use crate::outbox::state::{Desk, Slip};
use crate::outbox::store::Lease;
use crate::unordered::Unordered;
use buttress::Clock;

pub(super) type Flights = Unordered<Pin<Box<dyn Future<Output = Landed> + Send>>>;

/// A delivery that is not under way any more.
#[derive(Debug)]
pub(super) enum Landed {
    Ended(Delivery),
    /// Its partition went to another relay, so the delivery was dropped.
    Revoked(Slip),
}

/// `delivery` for as long as its partition is owned. It stands still while the lease has lapsed: a relay
/// whose process stood still must not publish what another relay has delivered meanwhile.
pub(super) async fn owned(
    delivery: impl Future<Output = Delivery>,
    slip: Slip,
    lease: Lease,
    standing: Arc<Standing>,
    clock: Clock,
) -> Landed {
    let mut delivery = pin!(delivery);
    let mut slip = Some(slip);
    poll_fn(|cx| match standing.may(lease, clock.now()) {
        May::Go => delivery.as_mut().poll(cx).map(Landed::Ended),
        // The relay wakes all deliveries when the store has answered.
        May::Wait => Poll::Pending,
        May::Never => slip.take().map_or(Poll::Pending, |slip| Poll::Ready(Landed::Revoked(slip))),
    })
    .await
}

/// Takes in deliveries that have ended; whether there were any.
pub(super) fn poll_flights(flights: &mut Flights, desk: &mut Desk, cx: &mut Context<'_>) -> bool {
    let mut any = false;
    while let Poll::Ready(landed) = flights.poll_next(cx) {
        match landed {
            Landed::Ended(delivery) => desk.ended(delivery.slip, delivery.lease, delivery.verdict),
            Landed::Revoked(slip) => desk.abandoned(&slip),
        }
        any = true;
    }
    any
}

/// Takes in deliveries that end at once.
pub(super) fn collect(flights: &mut Flights, desk: &mut Desk) {
    // Whoever is not done is polled again, with a waker, by the next wait.
    poll_flights(flights, desk, &mut Context::from_waker(std::task::Waker::noop()));
}
