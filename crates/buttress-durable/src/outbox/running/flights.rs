//! The deliveries that are under way.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use crate::outbox::deliver::Delivery;
use crate::outbox::state::Desk;
use crate::unordered::Unordered;

pub(super) type Flights = Unordered<Pin<Box<dyn Future<Output = Delivery> + Send>>>;

/// Waits for `future`, and lets deliveries go on meanwhile.
pub(super) async fn beside<T>(
    flights: &mut Flights,
    desk: &mut Desk,
    future: impl Future<Output = T>,
) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            poll_flights(flights, desk, cx);
        }
        polled
    })
    .await
}

/// Takes in deliveries that have ended; whether there were any.
pub(super) fn poll_flights(flights: &mut Flights, desk: &mut Desk, cx: &mut Context<'_>) -> bool {
    let mut any = false;
    while let Poll::Ready(delivery) = flights.poll_next(cx) {
        desk.ended(delivery.slip, delivery.lease, delivery.verdict);
        any = true;
    }
    any
}

/// Takes in deliveries that end at once.
pub(super) fn collect(flights: &mut Flights, desk: &mut Desk) {
    // Whoever is not done is polled again, with a waker, by the next wait.
    poll_flights(flights, desk, &mut Context::from_waker(std::task::Waker::noop()));
}
