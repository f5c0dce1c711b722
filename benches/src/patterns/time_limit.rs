//! Rows of the time limit.

use std::time::Duration;

use buttress::time_limit::{Config, TimeLimitLayer};
use tower::Layer;

use super::{BUTTRESS, FLOOR};
use crate::floors;
use crate::subject::Meter;
use crate::workload::{PendsOnce, Succeeds};

const READY: &str = "time limit: answer is ready";
const PENDING: &str = "time limit: answer on the second poll";

const LIMIT: Duration = Duration::from_secs(5);

pub fn visit(meter: &mut impl Meter) {
    meter.shared(READY, BUTTRESS, || layer().layer(Succeeds));
    meter.shared(READY, FLOOR, || floors::time_limit::TimeLimit::new(Succeeds, LIMIT));

    meter.shared(PENDING, BUTTRESS, || layer().layer(PendsOnce));
    meter.shared(PENDING, FLOOR, || floors::time_limit::TimeLimit::new(PendsOnce, LIMIT));
}

fn layer() -> TimeLimitLayer {
    TimeLimitLayer::new(Config::new(LIMIT)).expect("valid")
}
