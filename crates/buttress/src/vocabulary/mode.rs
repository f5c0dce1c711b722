//! Modes of a limiter: marker types that choose which service the layer makes for calls it cannot
//! admit now.

/// A mode in which the layer immediately refuses a call that it cannot admit now. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refuse;

/// A mode in which the call waits in its response future, in a bounded FIFO queue, for a bounded
/// time.
///
/// The inner service must be `Clone`: a waiting call holds no part of the service, and polls a
/// clone when it is admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued;

/// A mode in which `poll_ready` is pending until the call can be admitted.
///
/// It suits a load balancer or any caller that chooses another service while this one is not ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backpressure;
