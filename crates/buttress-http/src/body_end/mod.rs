//! Calls that are over at the end of their response's body.

mod body;
mod end;
mod held;
mod layer;
mod limit;
#[cfg(test)]
mod tests;

pub use body::HoldBody;
pub use end::BodyEnd;
pub use held::Held;
pub use layer::{HoldBodies, HoldBodyFuture, HoldBodyLayer};
pub use limit::{BodyTimeLimit, BodyTimeLimitFuture, BodyTimeLimitLayer};
