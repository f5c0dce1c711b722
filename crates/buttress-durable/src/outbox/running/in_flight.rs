//! The deliveries in flight.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::Running;
use super::ownership::{May, Ownership};
use crate::caught::caught;
use crate::instant;
use crate::outbox::config::Config;
use crate::outbox::state::Delivery;
use crate::outbox::store::{Lease, Verdict};
use crate::unordered::Unordered;
use buttress::Sleep;

pub(super) type InFlight = Unordered<dyn Future<Output = Ending> + Send>;

/// The longest pause of deliveries. Shorter than the 5 seconds for which a writer waits by default for
/// another writer of a SQLite file: a paused delivery may be that other writer.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Returns how long deliveries wait for a renewal, once one of them has found that the lease has ended.
///
/// Within this time a late answer may show that the store had renewed the lease before its end. The deliveries then
/// continue. Later the store assigns another epoch, and they end in any case. A store that does not answer may wait for a
/// delivery, which holds a transaction on the same file or the next place in the queue for one. So the
/// pause has one end for all deliveries: each of a queue of them would otherwise wait in turn.
pub(super) fn longest_pause(lease: Duration) -> Duration {
    (lease / 3).min(LONGEST_PAUSE)
}

/// A delivery in flight that ended.
#[derive(Debug)]
pub(super) struct Ending {
    delivery: Delivery,
    lease: Lease,
    end: End,
}

/// How a delivery in flight ended.
#[derive(Clone, PartialEq, Eq, Debug)]
enum End {
    Verdict(Verdict),
    /// Its partition went to another relay, so the delivery was dropped.
    Lost,
    /// The lease ended, and the store did not renew it during the longest pause. The delivery was
    /// dropped.
    Lapsed,
}

/// Runs `publishing` for as long as the relay owns the partition. Pauses it while the lease has
/// lapsed: a process that was paused must not publish a message that another relay has delivered
/// since. Drops it after the [longest pause](longest_pause), because the renewal may wait for a lock
/// that `publishing` holds.
pub(super) async fn owned(
    publishing: impl Future<Output = Verdict>,
    delivery: Delivery,
    lease: Lease,
    ownership: Arc<Ownership>,
    config: Arc<Config>,
) -> Ending {
    let clock = &config.common.clock;
    let mut publishing = pin!(Some(publishing));
    let mut pause: Option<(Instant, Pin<Box<Sleep>>)> = None;
    let ended = poll_fn(|cx| match ownership.may(lease, clock.now()) {
        May::Go => {
            pause = None;
            match publishing.as_mut().as_pin_mut() {
                Some(publishing) => publishing.poll(cx).map(End::Verdict),
                // The block around this future ends with the first answer.
                None => unreachable!("`owned` polled after completion"),
            }
        }
        // The relay wakes all deliveries when the store has answered.
        May::Wait(since) => {
            let ends = instant::after(since, longest_pause(config.lease));
            let (_, timer) = match &mut pause {
                Some(pause) if pause.0 == ends => pause,
                // Boxed: few deliveries are ever paused.
                pause => pause.insert((ends, Box::pin(clock.sleep_until(ends)))),
            };
            timer.as_mut().poll(cx).map(|()| End::Lapsed)
        }
        May::Never => Poll::Ready(End::Lost),
    });
    let end = ended.await;
    // The future of the publisher may panic when it is dropped.
    let _panic = caught(|| publishing.set(None));
    Ending { delivery, lease, end }
}

impl<St, P, C> Running<St, P, C> {
    /// Takes in deliveries that have ended, and returns whether there were any.
    pub(super) fn poll_in_flight(&mut self, cx: &mut Context<'_>) -> bool {
        let (mut any, mut lapsed) = (false, 0_usize);
        while let Poll::Ready(ending) = self.in_flight.poll_next(cx) {
            let Ending { delivery, lease, end } = ending;
            match end {
                End::Verdict(verdict) => {
                    self.claims.remove(&delivery.id);
                    self.pending.ended(delivery, lease, verdict);
                }
                // The start of a suspect keeps its claim: the relay did not crash, so the next start
                // of this message here counts as the same one.
                End::Lost => self.pending.abandoned(&delivery),
                End::Lapsed => {
                    self.pending.abandoned(&delivery);
                    lapsed += 1;
                }
            }
            any = true;
        }
        if lapsed > 0 {
            self.lapsed(lapsed);
        }
        any
    }

    /// Takes in deliveries that ended at their first poll.
    pub(super) fn collect(&mut self) {
        // The next wait polls the others again, with a waker.
        self.poll_in_flight(&mut Context::from_waker(Waker::noop()));
    }

    /// Reports dropped deliveries. Their messages are fetched again under the next lease.
    fn lapsed(&mut self, dropped: usize) {
        self.next_poll = self.now();
        let config = &self.relay.config;
        tracing::warn!(
            target: "buttress", layer = config.layer().as_str(), dropped, lease = ?config.lease,
            "the lease ended during deliveries and the store did not renew it: the relay drops the deliveries, and \
             repeats them under the next lease"
        );
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use crate::outbox::message::{Message, MessageId, NewMessage};
    use buttress::Clock;

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
        let (lease, config) = (Lease::new(3, 1), Arc::new(Config::new()));
        let ending = owned(publishing, delivery.clone(), lease, ownership, config).await;
        assert_eq!((ending.delivery, ending.end), (delivery, End::Lost));
    }
}
