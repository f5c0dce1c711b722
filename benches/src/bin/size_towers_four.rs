//! A program around a service with tower's four layers, for its size. See `report/size.rs`.

use buttress_benches::patterns::stack;
use buttress_benches::smallest;
use buttress_benches::workload::Succeeds;

fn main() {
    smallest::run(|| stack::towers_four(Succeeds));
}
