//! Asks the backends of one side of a route whether they are ready.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use buttress::context::Context;

use super::round::Round;
use super::{Forwarder, Head, Outgoing, Sending};
use crate::numbers::Ended;

type Asking = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Sends a GET to the backends of `sending`, until one answers with 2xx. Otherwise returns the result of the last
/// backend, after `time` at the latest.
///
/// The next backend is asked once all before it have failed, or have had their share of the time. The proxy still waits
/// for a backend that has not answered by then. So a backend that hangs hides no other one, and a slow one counts as
/// ready.
pub(crate) async fn probe(
    forwarder: &Arc<Forwarder>,
    sending: &Sending,
    head: Head,
    time: Duration,
) -> Result<(), String> {
    let clock = &forwarder.clock;
    let round = Round::new(forwarder, sending, head, Outgoing::empty(), None);
    let mut left = sending.upstream.handle().stats().endpoints_in.max(1);
    let share = time / u32::try_from(left).unwrap_or(u32::MAX);
    let end = clock.now().checked_add(time);
    let context = end.into_iter().fold(Context::current(), Context::with_deadline);
    let (mut why, mut running) = (String::new(), Vec::<Asking>::new());
    let mut turn = Box::pin(clock.sleep(share));
    poll_fn(|cx| {
        loop {
            let mut place = 0;
            while let Some(asking) = running.get_mut(place) {
                match asking.as_mut().poll(cx) {
                    Poll::Pending => place += 1,
                    Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                    Poll::Ready(Err(error)) => {
                        why = error;
                        drop(running.swap_remove(place));
                    }
                }
            }
            if running.is_empty() && left == 0 {
                return Poll::Ready(Err(std::mem::take(&mut why)));
            }
            if !running.is_empty() && (left == 0 || turn.as_mut().poll(cx).is_pending()) {
                return Poll::Pending;
            }
            left -= 1;
            running.push(Box::pin(context.clone().scope(ask(round.clone()))));
            turn = Box::pin(clock.sleep(share));
        }
    })
    .await
}

/// Asks one backend.
async fn ask(round: Round) -> Result<(), String> {
    match round.run().await {
        Ok(response) => {
            let status = response.status();
            if let Some(mut tally) = response.into_body().tally {
                tally.end(Ended::Answered);
            }
            if status.is_success() {
                return Ok(());
            }
            Err(format!("a backend answered {}", status.as_u16()))
        }
        Err(failed) => Err(format!("no backend answered: {}", failed.kind())),
    }
}
