//! A program around a service with no layer, for its size. See `report/size.rs`.

use buttress_benches::smallest;
use buttress_benches::workload::Succeeds;

fn main() {
    smallest::run(|| Succeeds);
}
