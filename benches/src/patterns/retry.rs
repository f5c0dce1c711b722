//! Rows of the retry.

use buttress::retry::{Backoff, Budget, Config, RetryLayer};
use tower::Layer;

use super::{BUTTRESS, FLOOR};
use crate::floors;
use crate::subject::Meter;
use crate::workload::{FailsEveryOther, Succeeds};

const FIRST: &str = "retry: first attempt succeeds";
const BUDGET: &str = "retry: first attempt succeeds, with a budget";
const AGAIN: &str = "retry: every other call fails three times, no backoff";

pub fn visit(meter: &mut impl Meter) {
    meter.shared(FIRST, BUTTRESS, || RetryLayer::default().layer(Succeeds));
    meter.shared(FIRST, FLOOR, || floors::retry::Retry::new(Succeeds));

    meter.shared(BUDGET, BUTTRESS, || {
        let config = Config::new().budget(Budget::new(0.2, 10).expect("valid"));
        RetryLayer::new(config).expect("valid").layer(Succeeds)
    });

    meter.shared(AGAIN, BUTTRESS, || {
        let config = Config::new().backoff(Backoff::none());
        RetryLayer::new(config).expect("valid").layer(FailsEveryOther)
    });
    meter.shared(AGAIN, FLOOR, || floors::retry::Retry::new(FailsEveryOther));
}
