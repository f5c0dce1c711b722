//! What a limiter does with a call it cannot admit now: marker types that pick the service a layer
//! makes.

/// Refuses the call at once. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refuse;

/// The call waits in its response future, in a bounded FIFO queue, for at most a bounded time. Needs an
/// inner service that is `Clone`: a waiting call keeps nothing of the service, and polls a clone at its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued;

/// `poll_ready` is pending until the call can be admitted, for use under a load balancer or any caller
/// that goes elsewhere while a service is not ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backpressure;
