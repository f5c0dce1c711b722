//! The names of measurements of the program `simulators` that targets use.

pub const QUEUE: &str = "one server, 70 % busy: requests per second of CPU time";
/// The server with layers in front of it.
pub const LAYERS: &str = "four layers and one server, 70 % busy: requests per second of CPU time";
pub const LINK: &str = "a network and one server, 70 % busy: requests per second of CPU time";

pub const OWN: &str = "buttress-sim, own engine";
pub const ON_TOKIO: &str = "buttress-sim, tokio engine";
pub const BY_HAND: &str = "tokio's paused clock, by hand";
pub const TURMOIL: &str = "turmoil, a datagram each way";
pub const SIMPY: &str = "SimPy";

/// The notes on the findings.
pub const NOTES: &[&str] = &[
    "Simulators: requests at random times to one server with random work, an M/M/1 queue. The \
     mean time in the system shows how exact a simulator is: a wait on tokio's clock is rounded \
     up to a millisecond. The best of three runs counts, because other programs on the same \
     cores can only make a run slower.",
    "SimPy is measured if `python3` finds it (`pip install simpy`), with a tenth of the \
     requests. happysim needs Python 3.13, and is not measured.",
];
