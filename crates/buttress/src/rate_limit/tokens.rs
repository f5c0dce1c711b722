//! The guards of a call.

use std::sync::Arc;

use super::shared::Shared;
use super::state::Receipt;
use crate::machinery::guard::Guard;
use crate::machinery::limited::Held;
use crate::machinery::waiting;
use crate::vocabulary::until::OpenCall;

/// Tokens that were taken for a call that has not begun. Dropping them returns them.
#[derive(Debug)]
#[must_use]
pub struct Tokens {
    /// `None` once spent.
    shared: Option<Arc<Shared>>,
    cost: u32,
    receipt: Receipt,
}

impl Tokens {
    pub(super) fn taken(shared: Arc<Shared>, cost: u32, receipt: Receipt) -> Self {
        Self { shared: Some(shared), cost, receipt }
    }

    /// Marks the tokens as spent, because the call begins.
    pub(super) fn spend(mut self) -> Spent {
        if let Some(shared) = self.shared.take() {
            shared.admitted();
        }
        Spent
    }
}

/// The hold of a running call on a rate limiter. It is empty, because the tokens are spent.
#[derive(Clone, Copy, Debug)]
pub struct Spent;

impl Guard for Spent {
    #[inline(always)]
    fn give_back(&mut self) {}
}

impl Held for Spent {
    const FUTURE: &'static str = "rate_limit::ResponseFuture";

    #[inline(always)]
    fn end(&mut self) {}

    fn hold(&mut self) -> Option<OpenCall> {
        None
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.limiter.refund(self.cost, self.receipt, shared.common.clock.now());
            if shared.queue.gauges().waiting > 0 {
                waiting::settle(&**shared);
            }
        }
    }
}
