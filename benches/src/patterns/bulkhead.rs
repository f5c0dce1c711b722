//! Rows of the bulkhead.

use buttress::AsError;
use buttress::bulkhead::{Bulkhead, BulkheadLayer, Config};
use tower::Layer;

use super::{BUTTRESS, FLOOR};
use crate::floors;
use crate::subject::Meter;
use crate::workload::Succeeds;

const ADMITTED: &str = "bulkhead: admitted";
const REFUSED: &str = "bulkhead: refused";

pub fn visit(meter: &mut impl Meter) {
    meter.shared(ADMITTED, BUTTRESS, || layer().layer(Succeeds));
    meter.shared(ADMITTED, FLOOR, || floors::bulkhead::Bulkhead::new(Succeeds, 100));

    meter.shared(REFUSED, BUTTRESS, full);
    meter.shared(REFUSED, FLOOR, || floors::bulkhead::Bulkhead::new(Succeeds, 0));
}

fn layer() -> BulkheadLayer {
    BulkheadLayer::new(Config::new().max_concurrent(100)).expect("valid")
}

fn full() -> Bulkhead<Succeeds, AsError> {
    let layer = BulkheadLayer::new(Config::new().max_concurrent(1)).expect("valid");
    // The call that holds the only permit never ends.
    std::mem::forget(layer.handle().try_acquire().expect("free"));
    layer.layer(Succeeds)
}
