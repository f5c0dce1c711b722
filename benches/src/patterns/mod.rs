//! The measurements: every path through every pattern, and its candidates.

pub mod balance;
pub mod bulkhead;
pub mod circuit_breaker;
pub mod context;
pub mod fallback;
pub mod idempotency;
pub mod parts;
pub mod rate_limit;
pub mod retry;
pub mod saga;
pub mod stack;
pub mod time_limit;

use crate::subject::Meter;

/// The name of this project's candidate.
pub const BUTTRESS: &str = "buttress";
/// The same with a layer that is never dropped.
pub const LEAKED: &str = "buttress, leaked";
/// The least code that keeps the guarantee.
pub const FLOOR: &str = "floor";
/// The service without any layer.
pub const BARE: &str = "bare";

/// Lets `meter` measure everything.
pub fn visit_all(meter: &mut impl Meter) {
    parts::visit(meter);
    circuit_breaker::visit(meter);
    rate_limit::visit(meter);
    bulkhead::visit(meter);
    retry::visit(meter);
    time_limit::visit(meter);
    fallback::visit(meter);
    idempotency::visit(meter);
    balance::visit(meter);
    context::visit(meter);
    saga::visit(meter);
    stack::visit(meter);
}

/// Returns the notes on how candidates were measured.
pub fn notes() -> impl Iterator<Item = &'static str> {
    [
        circuit_breaker::NOTES,
        rate_limit::NOTES,
        bulkhead::NOTES,
        retry::NOTES,
        time_limit::NOTES,
        fallback::NOTES,
        idempotency::NOTES,
        balance::NOTES,
        context::NOTES,
        saga::NOTES,
        stack::NOTES,
    ]
    .into_iter()
    .flatten()
    .copied()
}
