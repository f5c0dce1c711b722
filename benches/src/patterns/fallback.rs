//! Rows of the fallback.

use buttress::fallback::FallbackLayer;
use tower::Layer;

use super::{BUTTRESS, FLOOR};
use crate::floors;
use crate::subject::Meter;
use crate::workload::{FailsEveryOther, Succeeds};

const PRIMARY: &str = "fallback: primary succeeds";
const USED: &str = "fallback: every other call falls back";

pub fn visit(meter: &mut impl Meter) {
    meter.shared(PRIMARY, BUTTRESS, || FallbackLayer::value(7).layer(Succeeds));
    meter.shared(PRIMARY, FLOOR, || floors::fallback::Fallback::new(Succeeds, 7));

    meter.shared(USED, BUTTRESS, || FallbackLayer::value(7).layer(FailsEveryOther));
    meter.shared(USED, FLOOR, || floors::fallback::Fallback::new(FailsEveryOther, 7));
}
