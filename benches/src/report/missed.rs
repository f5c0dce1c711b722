//! Why a target is not reached, and what would reach it. Printed for those that are missed in this run.
//! The report prints the profiles of the missed paths below them.

use super::targets::{
    COUNTED, COUNTING_ON_TWO, FIRST_ATTEMPT, SCOPED, SECOND_POLL, SIMULATED, TENTH, UNEVEN,
};
use super::{contention, on_two, size};
use crate::patterns::{
    bulkhead, circuit_breaker, fallback, idempotency, rate_limit, retry, stack, time_limit,
};
use crate::{durable, probes};

const REASONS: &[(&str, &str)] = &[
    (
        circuit_breaker::CONSECUTIVE.name,
        "Beside what the floor does it looks at the state in `poll_ready` as well as in `call`, so that a \
         refused call reserves nothing further in; keeps a place for a refusal seen there; hands the guard \
         over, so that a panic or a dropped future settles it exactly once; and passes by whether calls \
         are counted.",
    ),
    (circuit_breaker::COUNT.name, "As for failures in a row."),
    (
        circuit_breaker::OPEN.name,
        "Two reads of the clock (see *Parts*) are 166 of its instructions, the floor has one. \
         `poll_ready` reads it because an open circuit admits a probe once its time is over, and a \
         refused call must reserve nothing further in. `call` reads it again because the refusal may have \
         been seen a while ago, and carries the exact time to come back. The rest counts the refusal in a \
         shard of its thread and asks whether an observer listens.",
    ),
    (
        rate_limit::ADMITTED.name,
        "A large part of it is the clock, for the floor too (see *Parts*). Above the floor: the plan \
         stands behind a sequence lock, so that it can change live; `poll_ready` looks first, so that a \
         refused call reserves nothing further in; cost by request, waiters and the choice of policy have \
         their branches; calls can be counted. A limiter whose rate cannot change and that has no waiters \
         would be at the floor. governor reads the CPU's own counter, which a paused clock cannot \
         move.",
    ),
    (
        rate_limit::REFUSED.name,
        "Two reads of the clock (see *Parts*), as for an open circuit: `poll_ready` must know whether a \
         token has come, and `call` returns the time that is left by then. The floor has one. The rest is \
         the plan behind its sequence lock, the refusal counted in a shard of its thread, and the \
         question whether an observer listens.",
    ),
    (
        rate_limit::KEYED.name,
        "A part of it is SipHash (see *Parts*), which governor pays too. Above governor: the system's \
         clock against the CPU's counter, and the order of use, without which a hard cap on keys could \
         not choose the key to forget. A weaker hash would reach the target, and let callers that choose \
         keys choose collisions.",
    ),
    (
        bulkhead::ADMITTED.name,
        "It looks for room in `poll_ready` as well as in `call`, so that a refused call reserves nothing \
         further in; keeps a place for a refusal seen there; hands the permit over, so that a panic or a \
         dropped future returns it exactly once; and checks whether calls are counted and whether a call \
         waits.",
    ),
    (
        bulkhead::REFUSED.name,
        "It looks in `poll_ready`, so that a refused call reserves nothing further in, and keeps the \
         refusal until `call`. Each refusal is counted in a shard of its thread, reported if an observer \
         listens, and carries the layer's name and its limit.",
    ),
    (
        circuit_breaker::COUNT_ONE_FAILED.name,
        "A success that enters or leaves a window with a failure in it claims the next slot of the ring and corrects \
         the sums in one compare-and-swap, and then writes the slot with its lap: the window is exact, and moves by \
         every call. recloser sets a bit in a ring. A third of the profile is the guard of the call, which a closed \
         circuit without failures settles in registers. Two forms that settle this success without a frame of its \
         own were tried: 154 and 162 instructions, but 40 and 55 for a circuit without failures.",
    ),
    (
        UNEVEN,
        "A rate that is no whole number of nanoseconds is kept exact over any horizon, so its plan divides \
         where the plan of an even rate does not.",
    ),
    (
        idempotency::STORED_BY_TEXT.name,
        "A key is checked for control characters, owns its text (one allocation), and is hashed. The floor only \
         hashes it.",
    ),
    (idempotency::FIRST_BY_TEXT.name, "As for a stored answer."),
    (
        retry::FIRST.name,
        "The rules stand in one place so that they can change live: an `Arc` cloned and dropped (see \
         *Parts*), flags to look at, a guard to leave behind. tower copies its policy into each call, so \
         the compiler can forget all of it.",
    ),
    (retry::BUDGET.name, "As above; the budget itself is one addition in a separate shard."),
    (
        COUNTED,
        "A time, and so as long as the machine is slow: in a run in which all of it, the peers too, took two to \
         three times as long as on a quiet one, where it is below 10 ns. In instructions it is 49 a layer.",
    ),
    (
        COUNTING_ON_TWO,
        "A layer counts in a shard of its thread, so no shard is shared; the locked additions wait for the lines of \
         the layer's state, which both threads write before and after. Eight shards instead of two changed nothing. \
         It depends on where the two processors are and who else uses them: 10 ns in one run, 28 and 56 ns in others.",
    ),
    (
        time_limit::PENDING.name,
        "Almost all of it is tokio's timer, for the floor too. Above it: which clock it is (a virtual one drives \
         the simulator) is asked when the timer is made, polled and dropped, and the timer is polled outside \
         tokio's cooperative budget, so that a service that uses that up cannot hide its own limit.",
    ),
    (
        fallback::PRIMARY.name,
        "The value and the counters stand in the layer's state, which each call holds: an `Arc` (see *Parts*) \
         where the floor copies a number.",
    ),
    (
        stack::SIX.name,
        "The limiter and the time limit each read the clock (see *Parts*), the floor once. The floor clones \
         two `Arc`s into the call, the breaker's and the bulkhead's; here the retry and the fallback take \
         theirs too, because a handle may change what is in them. And the future is larger than what the \
         compiler keeps in registers, so it is built and taken apart in memory. One read of the clock for \
         the whole stack would save one of the two, layers that know each other the rest.",
    ),
    (
        stack::CLONED.name,
        "A reference count up and down for what each layer shares with its handle, and one for the value \
         of the fallback; the floor has three.",
    ),
    (
        SECOND_POLL,
        "tokio's timer is most of it, for tower too. Above it: see the target in instructions.",
    ),
    (
        FIRST_ATTEMPT,
        "The reference count alone takes longer than tower's whole call. A retry that is given to `leak` \
         has none: then a first attempt is a load, a comparison and the moves of its parts.",
    ),
    (
        contention::CALL,
        "Three of them are decisions: the limiter's token, and the bulkhead's permit taken and returned. \
         The other twelve are six pairs of reference counts: one for each of the five layers whose calls \
         hold their state, and one for the time limit in the clone that the retry keeps for its next \
         attempt. Layers that are given to `leak` make the three alone, see the row. One `Arc` for a \
         whole stack would make five. The calls of the inner layers would then borrow from the call that \
         holds it. A future that holds an `Arc` and borrows from it is an `async` block in safe Rust, and \
         such a block has no name, which `Service::Future` and `Layer::Service` need; boxed it is an \
         allocation per call. One `Arc` per thread and layer was tried: 28 % more instructions on one \
         thread.",
    ),
    (
        contention::CLONE,
        "A clone of the stack counts the `Arc` of each layer up, and its drop counts it down. tower's \
         four have one such `Arc`, the bulkhead's. Layers that are given to `leak` count none, see the \
         row. One `Arc` for the whole stack: see the call.",
    ),
    (
        on_two::FALLBACK,
        "The call counts a reference to what the layer shares, on a line that both threads write. A layer \
         that is given to `leak` counts none: see the rows of six leaked layers.",
    ),
    (on_two::RETRY, "As for the fallback."),
    (on_two::LIMIT, "As for the fallback."),
    (on_two::CALL, "See the locked read-modify-writes on shared lines."),
    (on_two::CLONE, "See the locked read-modify-writes on shared lines."),
    (
        size::BINARY,
        "By the symbols of the program without and with the layers, when it had 207 kB: 47 kB five ordered \
         maps and sets of the standard library, which hold the waiting calls of limiter and bulkhead, \
         their deadlines, and parked tasks; 41 kB the six layers as they are made and called, each inlined \
         into the other; 18 kB the circuit's changes of state; 18 kB the text of a rate, which brings the standard \
         library's conversion of floating-point numbers; 17 kB the tables for unwinding; 13 kB the \
         limiter's policies, 9 kB further attempts, 10 kB drops, 7 kB the queue, 10 kB constants and \
         relocations. A limit that refuses has the queue in it because its handle can wait.",
    ),
    (
        size::IDLE,
        "The counters of six layers have a shard for each core, up to eight, and a shard is a pair of cache \
         lines, so that threads that count refusals do not wait for each other. With the 1 872 bytes of everything \
         else that is 3 408 bytes on two cores, 4 944 on four and 8 016 from eight cores on. Shards that are made at \
         the first addition would need a branch more, and a refusal by a full bulkhead has no room for it below \
         its target.",
    ),
    (
        SCOPED,
        "A time, as for counted calls: the same call takes 50 ns on a quiet machine. In instructions and allocations \
         it is what it was.",
    ),
    (
        probes::RATE_CPU,
        "A time: it is 2.7 % on a quiet machine, where governor takes 34 %. Compare the rows of one run.",
    ),
    (
        probes::RATE_ORDER,
        "The limiter grants in the order of arrival. The row notes when callers continue: a caller that found a free \
         token can be noted before one that was granted earlier and whose task has not been polled since, which \
         happens where the machine is late.",
    ),
    (
        durable::WAIT_RELAY,
        "SQLite has one writer, so a transaction waits for the relay's, which settles up to 500 messages; both wait \
         for the disk. Its wait grows with the time that the machine takes for one: compare the row of user \
         transactions alone, and hexeract's rate, in the same run.",
    ),
    (
        durable::WAIT_POSTGRES,
        "Each transaction waits for the disk, which the relay's transactions keep busy: compare the row of SQLite in the \
         same run.",
    ),
    (
        SIMULATED,
        "Two processes, of which one is Python's: the ratio varies with the machine by a fifth. A request \
         takes 0.32 µs: by the profile (perf, own engine, one server) a third goes to arrivals, calls and \
         their measurement, a quarter to timers and their heap, a fifth to the server and a tenth to wakers. \
         No function has more than 10 %.",
    ),
    (
        TENTH,
        "Two reads of the clock are a large part of the time (see *Parts*). It is near the target, and on \
         either side of it from one run to the next.",
    ),
];

/// What is known of a missed target.
pub(super) fn reason(what: &str) -> Option<&'static str> {
    REASONS.iter().find(|(name, _)| *name == what).map(|(_, reason)| *reason)
}
