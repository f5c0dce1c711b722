//! Rows of the retry.

use buttress::retry::{Backoff, Budget, Config, RetryLayer};
use tower::Layer;

use super::{BUTTRESS, FLOOR, LEAKED};
use crate::floors;
use crate::peers::{
    BACKON, SEATBELT, TOWER, TOWER_RESILIENCE, backon, seatbelt, tower as peer_tower,
    tower_resilience,
};
use crate::row::Row;
use crate::subject::Meter;
use crate::workload::{FailsEveryOther, FailsOneInHundred, Succeeds};

pub const FIRST: Row = Row::all("retry: first attempt succeeds");
pub const BUDGET: Row = Row::all("retry: first attempt succeeds, with a budget");
pub const AGAIN: Row = Row::every_other("retry: every other call fails three times, no backoff");

pub const AGAIN_SELDOM: Row =
    Row::one_in_hundred_fails("retry: 1 call in 100 fails three times, no backoff");

pub const NOTES: &[&str] = &[
    "Retry: tower's policy is three attempts without waits, with the TpsBudget. \
     tower-resilience has the cheaper of its two budgets, which does not count calls but grows \
     with successes.",
    "Retry, 1 call in 100 fails: the path of a service in use. The failing call makes all of \
     its three attempts.",
    "Retry, three failures: tower-resilience waits for a timer even of zero length, so it has \
     no figure here; see the probes. seatbelt and backon do not poll the service ready before a \
     further attempt.",
];

/// Measures three attempts without waits on a service that fails.
macro_rules! again {
    ($meter:ident, $row:ident, $service:ident) => {
        $meter.shared($row, BUTTRESS, || {
            let config = Config::new().backoff(Backoff::none());
            RetryLayer::new(config).expect("valid").layer($service)
        });
        $meter.shared($row, FLOOR, || floors::retry::Retry::new($service));
        $meter.shared($row, BACKON, || backon::retry($service));
        $meter.shared($row, SEATBELT, || seatbelt::retry($service));
        $meter.shared($row, TOWER, || peer_tower::retry($service));
    };
}

pub fn visit(meter: &mut impl Meter) {
    meter.shared(FIRST, BUTTRESS, || RetryLayer::default().layer(Succeeds));
    meter.shared(FIRST, LEAKED, || RetryLayer::default().leak().layer(Succeeds));
    meter.shared(FIRST, FLOOR, || floors::retry::Retry::new(Succeeds));
    meter.shared(FIRST, BACKON, || backon::retry(Succeeds));
    meter.shared(FIRST, SEATBELT, || seatbelt::retry(Succeeds));
    meter.shared(FIRST, TOWER, || peer_tower::retry(Succeeds));
    meter.shared(FIRST, TOWER_RESILIENCE, || tower_resilience::retry(Succeeds));

    meter.shared(BUDGET, BUTTRESS, || {
        let config = Config::new().budget(Budget::new(0.2, 10).expect("valid"));
        RetryLayer::new(config).expect("valid").layer(Succeeds)
    });
    meter.shared(BUDGET, TOWER, || peer_tower::retry_with_budget(Succeeds));
    meter.shared(BUDGET, TOWER_RESILIENCE, || tower_resilience::retry_with_budget(Succeeds));

    again!(meter, AGAIN, FailsEveryOther);
    again!(meter, AGAIN_SELDOM, FailsOneInHundred);
}
