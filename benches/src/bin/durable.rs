//! Rates of durable work, and the waits of users meanwhile. Tab-separated: what, who, value, text.
//! Arguments select the measurements.

use buttress_benches::durable::{beside, in_memory, on_sqlite, purging, relay};

fn main() {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let all: [(&str, fn()); 5] = [
        ("memory", in_memory::run),
        ("sqlite", on_sqlite::run),
        ("relay", relay::run),
        ("purge", purging::run),
        ("beside", beside::run),
    ];
    for (name, run) in all {
        if named.is_empty() || named.iter().any(|named| named == name) {
            run();
        }
    }
}
