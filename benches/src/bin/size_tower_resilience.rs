//! A program around a service with tower-resilience's six layers, for its size. See `report/size.rs`.

use buttress_benches::peers::tower_resilience::{self, Six};
use buttress_benches::smallest;
use buttress_benches::workload::Succeeds;

fn main() {
    smallest::run(|| tower_resilience::six(Succeeds, 100, Six::Alike));
}
