//! A program around a service with buttress's six layers, for its size. See `report/size.rs`.

use buttress_benches::patterns::stack::{self, Extras};
use buttress_benches::smallest;
use buttress_benches::workload::Succeeds;

fn main() {
    smallest::run(|| stack::buttress(Succeeds, 100, Extras::Nothing));
}
