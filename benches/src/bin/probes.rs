//! The behaviour of the candidates under load. Tab-separated: probe, candidate, value, text.

use buttress_benches::probes;

fn main() {
    probes::opening::run();
    probes::window::run();
    probes::refusing::run();
    probes::retrying::run();
    probes::waiting::run();
    probes::line::run();
    probes::dispatching::run();
    probes::publishing::run();
}
