//! Why a target is not reached, and what would reach it. Printed for those that are missed in this run.
//! The instructions named here were read off callgrind's profile of the row, line by line.

use crate::patterns::{fallback, rate_limit, retry, stack};

const REASONS: [(&str, &str); 9] = [
    (
        rate_limit::ADMITTED.name,
        "Half of it is the clock, for the floor too (see *Parts*). Above the floor: the plan stands behind \
         a sequence lock, so that it can change live (14 instructions); `poll_ready` looks first, so that \
         a refused call reserves nothing further in (8); cost by request, waiters and the choice of \
         policy have their branches (9); calls can be counted (2). A limiter whose rate cannot change and \
         that nobody waits for would be at the floor. governor reads the CPU's own counter, which a paused \
         clock cannot move.",
    ),
    (
        rate_limit::REFUSED.name,
        "As above, and each refusal is counted in a shard of its thread (8), told if somebody listens (2), \
         and carries the layer's name, its limit and the exact time to come back (9).",
    ),
    (
        rate_limit::KEYED.name,
        "A third is SipHash, which governor pays too. Above governor: the system's clock against the \
         CPU's counter (some 60), and the order of use, without which a hard cap on keys could not tell \
         whom to forget (some 45). A weaker hash would reach the target, and let whoever chooses keys \
         choose collisions.",
    ),
    (
        retry::FIRST.name,
        "The rules stand in one place so that they can change live: an `Arc` cloned and dropped, three \
         flags to look at, a guard to leave behind. tower copies its policy into each call, so the \
         compiler can forget all of it. In time it is some 3 ns.",
    ),
    (retry::BUDGET.name, "As above; the budget itself is one addition in a shard of its own."),
    (
        fallback::PRIMARY.name,
        "The value is shared, not copied into each call, and so are the counters: two `Arc`s where the \
         floor copies a number.",
    ),
    (
        stack::SIX.name,
        "The limiter and the time limit each read the clock, the floor once. Seven shared states are \
         cloned into the call, the floor clones three; each is what its handle changes live. And the \
         future is larger than what the compiler keeps in registers: some 60 instructions build it and \
         some 60 take it apart. One read of the clock for the whole stack would save 60, layers that \
         know each other the rest.",
    ),
    (
        stack::CLONED.name,
        "Seven reference counts up and down, the floor's three: one for what each layer shares with its \
         handle, and one for the value of the fallback.",
    ),
    (
        super::targets::TENTH,
        "Two reads of the clock are half of the time. It is near the target, and on either side of it from \
         one run to the next.",
    ),
];

/// What is known of a missed target.
pub(super) fn reason(what: &str) -> Option<&'static str> {
    REASONS.iter().find(|(name, _)| *name == what).map(|(_, reason)| *reason)
}
