//! Rows of the fallback.

use std::future::ready;

use buttress::fallback::FallbackLayer;
use tower::{Layer, ServiceExt};

use super::{BUTTRESS, FLOOR, LEAKED};
use crate::floors;
use crate::peers::{SEATBELT, TOWER, TOWER_RESILIENCE, seatbelt, tower_resilience};
use crate::row::Row;
use crate::subject::Meter;
use crate::workload::{FailsEveryOther, Failure, Succeeds};

pub const PRIMARY: Row = Row::all("fallback: primary succeeds");
pub const USED: Row = Row::all("fallback: every other call falls back");

pub const NOTES: &[&str] = &["Fallback: tower has no such layer; its candidate is `then`."];

pub fn visit(meter: &mut impl Meter) {
    meter.shared(PRIMARY, BUTTRESS, || FallbackLayer::value(7).layer(Succeeds));
    meter.shared(PRIMARY, LEAKED, || FallbackLayer::value(7).leak().layer(Succeeds));
    meter.shared(PRIMARY, FLOOR, || floors::fallback::Fallback::new(Succeeds, 7));
    meter.shared(PRIMARY, SEATBELT, || seatbelt::fallback(Succeeds));
    meter.shared(PRIMARY, TOWER, || {
        Succeeds.then(|result: Result<u64, _>| ready(Ok::<_, Failure>(result.unwrap_or(7))))
    });
    meter.shared(PRIMARY, TOWER_RESILIENCE, || tower_resilience::fallback(Succeeds));

    meter.shared(USED, BUTTRESS, || FallbackLayer::value(7).layer(FailsEveryOther));
    meter.shared(USED, FLOOR, || floors::fallback::Fallback::new(FailsEveryOther, 7));
    meter.shared(USED, SEATBELT, || seatbelt::fallback(FailsEveryOther));
    meter.shared(USED, TOWER, || {
        FailsEveryOther.then(|result: Result<u64, _>| ready(Ok::<_, Failure>(result.unwrap_or(7))))
    });
    meter.shared(USED, TOWER_RESILIENCE, || tower_resilience::fallback(FailsEveryOther));
}
