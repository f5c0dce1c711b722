//! The task of a mirrored call.

use std::future::Future;
use std::pin::pin;
use std::sync::OnceLock;

use tower::Service;

use super::compare::{Compare, Comparison};
use super::shared::{End, Slot};
use crate::machinery::caught::{catching, discard};
use crate::machinery::oneshot::Oneshot;

/// Calls the mirror and compares its answer. The limit of the shadow ends both, and a panic ends only them.
pub(super) async fn run<S, Req, C>(slot: Slot, mirror: S, request: Req, note: C::Note, compare: C)
where
    S: Service<Req>,
    C: Compare<S::Response, S::Error>,
{
    let end = {
        let shared = slot.shared();
        let clock = shared.common.clock.clone();
        let mut limit = pin!(clock.sleep(shared.config.within));
        let compared = OnceLock::new();
        let work = compared_into(&compared, mirror, request, note, compare);
        let ended = catching(work, |cx| limit.as_mut().poll(cx)).await;
        let panicked = ended.is_some_and(|ended| ended.map_err(discard).is_err());
        match compared.into_inner() {
            // Also if a value of the mirror has panicked since, when it was dropped.
            Some(comparison) => End::Compared(comparison),
            None if panicked => End::Panicked,
            None => End::TimedOut,
        }
    };
    slot.end(&end);
}

/// Sets `compared` before it drops the call of the mirror.
async fn compared_into<S, Req, C>(
    compared: &OnceLock<Comparison>,
    mirror: S,
    request: Req,
    note: C::Note,
    compare: C,
) where
    S: Service<Req>,
    C: Compare<S::Response, S::Error>,
{
    let mut call = pin!(Oneshot::new(mirror, request));
    let answer = call.as_mut().await;
    let mut comparing = pin!(compare.compare(note, answer));
    drop(compared.set(comparing.as_mut().await));
}
