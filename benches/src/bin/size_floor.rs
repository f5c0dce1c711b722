//! A program around a service with the floor of six layers, for its size. See `report/size.rs`.

use buttress_benches::patterns::stack;
use buttress_benches::smallest;
use buttress_benches::workload::Succeeds;

fn main() {
    smallest::run(|| stack::floor(Succeeds, 100));
}
