//! The words of a circuit: the ticket of a call, and the control word that admits calls.

use crate::machinery::window::CALLS_NOT_COUNTED;
use crate::vocabulary::observe::CircuitState;

/// The ticket of an admitted call until it is settled: the generation in the upper 32 bits, and how the
/// call was admitted in the lower ones. One word, so that a call needs no memory for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ticket(u64);

/// Admitted through a closed circuit.
pub(super) const COUNTED: u32 = 0;
/// Admitted through a closed circuit that also counts the admission or times the call.
pub(super) const NOTED: u32 = 1 << 30;
/// Admitted through a disabled circuit. A larger value is a probe, whose number is the difference.
pub(super) const UNCOUNTED: u32 = 1 << 31;
/// A probe that has given its place to another one.
pub(super) const ASIDE: u32 = u32::MAX - 1;
const _: () = assert!((NOTED | UNCOUNTED) as u64 == CALLS_NOT_COUNTED);

impl Ticket {
    /// The ticket of a call that passed no circuit.
    pub(crate) const NONE: Self = Self(u64::MAX);

    #[inline(always)]
    pub(super) const fn new(generation: u32, how: u32) -> Self {
        Self((generation as u64) << 32 | how as u64)
    }

    pub(super) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns the ticket in the layout of a window's word. The windows describe the layout.
    #[inline(always)]
    pub(super) const fn word(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(super) const fn how(self) -> u32 {
        self.0 as u32
    }

    pub(super) fn is_probe(self) -> bool {
        self.how() > UNCOUNTED
    }

    /// Returns the ticket of a call through a circuit with this word of `control`. `None` unless
    /// the circuit is closed and notes nothing else. The ticket equals the word.
    #[inline(always)]
    pub(super) fn of_closed(control: u64) -> Option<Self> {
        let ticket = Self(control);
        (ticket.how() == COUNTED | CircuitState::Closed as u32).then_some(ticket)
    }

    /// Returns the ticket of the same call, marked as counted or timed.
    pub(crate) const fn noted(self) -> Self {
        if self.how() == COUNTED { Self(self.0 | NOTED as u64) } else { self }
    }

    /// Returns `true` if the circuit counts nothing of this call.
    pub(crate) fn is_uncounted(self) -> bool {
        self.how() == UNCOUNTED
    }
}

const STATES: [CircuitState; 6] = [
    CircuitState::Closed,
    CircuitState::Open,
    CircuitState::HalfOpen,
    CircuitState::ForcedOpen,
    CircuitState::Disabled,
    CircuitState::MetricsOnly,
];

/// Packs a word of `control`: the generation, [`NOTED`] while calls are counted or timed, and the
/// state. For a closed circuit that notes nothing else, the word is the ticket of its calls.
pub(super) fn pack(generation: u32, noted: u32, state: CircuitState) -> u64 {
    Ticket::new(generation, noted | state as u32).0
}

pub(super) fn unpack(control: u64) -> (u32, CircuitState) {
    let state = STATES.get((control & 7) as usize).copied().unwrap_or(CircuitState::Closed);
    ((control >> 32) as u32, state)
}
