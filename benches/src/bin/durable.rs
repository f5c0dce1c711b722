//! Rates of what outlives a call, and waits beside it. Tab-separated: what, who, value, text. With
//! arguments only what they name.

use buttress_benches::durable;

fn main() {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|named| named == name);
    if wanted("memory") {
        durable::in_memory::run();
    }
}
