//! Rows of the bulkhead.

use buttress::AsError;
use buttress::bulkhead::{Bulkhead, BulkheadLayer, Config};
use tower::Layer;
use tower::limit::ConcurrencyLimit;

use super::{BUTTRESS, FLOOR};
use crate::floors;
use crate::peers::tokio::Permits;
use crate::peers::{TOKIO, TOWER, TOWER_RESILIENCE, tower as peer_tower, tower_resilience};
use crate::row::Row;
use crate::subject::Meter;
use crate::workload::{FailsEveryOther, Succeeds};

pub const ADMITTED: Row = Row::all("bulkhead: admitted");
pub const FAILED: Row = Row::every_other("bulkhead: admitted, every other call fails");
pub const REFUSED: Row = Row::none("bulkhead: refused");

pub const NOTES: &[&str] = &[
    "Bulkhead: tower is its ConcurrencyLimit, for refusals behind its LoadShed. tokio is a \
     Semaphore with `try_acquire_owned`.",
    "Bulkhead, refused: tower-resilience's own refusal waits for a timer of a millisecond (see \
     the probes). Here it runs in its backpressure mode behind tower's LoadShed, which is \
     faster.",
];

const BACKPRESSURE: &str = "tower-resilience, backpressure";

pub fn visit(meter: &mut impl Meter) {
    meter.shared(ADMITTED, BUTTRESS, || layer().layer(Succeeds));
    meter.shared(ADMITTED, FLOOR, || floors::bulkhead::Bulkhead::new(Succeeds, 100));
    meter.shared(ADMITTED, TOKIO, || Permits::new(Succeeds, 100));
    meter.shared(ADMITTED, TOWER, || ConcurrencyLimit::new(Succeeds, 100));
    meter.shared(ADMITTED, TOWER_RESILIENCE, || tower_resilience::bulkhead(Succeeds, 100));
    meter.shared(ADMITTED, BACKPRESSURE, || tower_resilience::bulkhead_backpressure(Succeeds, 100));

    meter.shared(FAILED, BUTTRESS, || layer().layer(FailsEveryOther));
    meter.shared(FAILED, FLOOR, || floors::bulkhead::Bulkhead::new(FailsEveryOther, 100));
    meter.shared(FAILED, TOKIO, || Permits::new(FailsEveryOther, 100));
    meter.shared(FAILED, TOWER, || ConcurrencyLimit::new(FailsEveryOther, 100));
    meter.shared(FAILED, TOWER_RESILIENCE, || tower_resilience::bulkhead(FailsEveryOther, 100));
    meter.shared(FAILED, BACKPRESSURE, || {
        tower_resilience::bulkhead_backpressure(FailsEveryOther, 100)
    });

    meter.shared(REFUSED, BUTTRESS, full);
    meter.shared(REFUSED, FLOOR, || floors::bulkhead::Bulkhead::new(Succeeds, 0));
    meter.shared(REFUSED, TOKIO, || Permits::new(Succeeds, 0));
    meter.shared(REFUSED, TOWER, || peer_tower::full(Succeeds));
    meter.shared(REFUSED, "tower-resilience behind LoadShed", || {
        tower_resilience::full_bulkhead(Succeeds)
    });
}

fn layer() -> BulkheadLayer {
    BulkheadLayer::new(Config::new().max_concurrent(100)).expect("valid")
}

pub fn full() -> Bulkhead<Succeeds, AsError> {
    let layer = BulkheadLayer::new(Config::new().max_concurrent(1)).expect("valid");
    // The call that holds the only permit never ends.
    std::mem::forget(layer.handle().try_acquire().expect("free"));
    layer.layer(Succeeds)
}
