//! What the simulator shows, seen from outside.

mod limits;
mod queueing;
mod support;
