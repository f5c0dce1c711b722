//! Rows of the time limit.

use std::time::Duration;

use buttress::time_limit::{Config, TimeLimitLayer};
use tower::Layer;
use tower::timeout::Timeout;

use super::{BUTTRESS, FLOOR, LEAKED};
use crate::floors;
use crate::peers::tokio::{TimedOut, Within};
use crate::peers::{SEATBELT, TOKIO, TOWER, TOWER_RESILIENCE, seatbelt, tower_resilience};
use crate::row::Row;
use crate::subject::Meter;
use crate::workload::{PendsOnce, Succeeds};

pub const READY: Row = Row::all("time limit: answer is ready");
pub const PENDING: Row = Row::all("time limit: answer on the second poll");

pub const NOTES: &[&str] =
    &["Time limit: the floor reads no clock before the first wait, so it counts from the first \
     wait and not from the call. tokio is `tokio::time::timeout`."];

pub const LIMIT: Duration = Duration::from_secs(5);

pub fn visit(meter: &mut impl Meter) {
    meter.shared(READY, BUTTRESS, || layer().layer(Succeeds));
    meter.shared(READY, LEAKED, || layer().leak().layer(Succeeds));
    meter.shared(READY, FLOOR, || floors::time_limit::TimeLimit::new(Succeeds, LIMIT));
    meter.shared(READY, SEATBELT, || seatbelt::time_limit(Succeeds, LIMIT));
    meter.shared(READY, TOKIO, || TimedOut { inner: Succeeds, guard: Within(LIMIT) });
    meter.shared(READY, TOWER, || Timeout::new(Succeeds, LIMIT));
    meter.shared(READY, TOWER_RESILIENCE, || tower_resilience::time_limit(Succeeds, LIMIT));

    meter.shared(PENDING, BUTTRESS, || layer().layer(PendsOnce));
    meter.shared(PENDING, FLOOR, || floors::time_limit::TimeLimit::new(PendsOnce, LIMIT));
    meter.shared(PENDING, SEATBELT, || seatbelt::time_limit(PendsOnce, LIMIT));
    meter.shared(PENDING, TOKIO, || TimedOut { inner: PendsOnce, guard: Within(LIMIT) });
    meter.shared(PENDING, TOWER, || Timeout::new(PendsOnce, LIMIT));
    meter.shared(PENDING, TOWER_RESILIENCE, || tower_resilience::time_limit(PendsOnce, LIMIT));
}

pub fn layer() -> TimeLimitLayer {
    TimeLimitLayer::new(Config::new(LIMIT)).expect("valid")
}
