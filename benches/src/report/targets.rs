//! The targets, and whether they were reached.

use super::cells::or_none;
use super::contention;
use super::figures::value;
use super::on_two;
use super::results::Results;
use super::size;
use crate::durable;
use crate::held::{FEW, LIMITED, MANY, SAGAS, SIX};
use crate::patterns::{
    BARE, BUTTRESS, FLOOR, LEAKED, balance, bulkhead, circuit_breaker, context, fallback,
    idempotency, rate_limit, retry, saga, stack, time_limit,
};
use crate::peers::{GOVERNOR, RECLOSER, TOWER, TOWER_RESILIENCE};
use crate::probes;
use crate::row::Row;
use crate::simulated;
use crate::spread::Spread;

pub const TENTH: &str = "six layers, time over tower-resilience's faster six";
pub const COUNTED: &str = "counting calls, per layer";
pub(super) const COUNTING_ON_TWO: &str = "counting calls, per layer, on two threads";
pub const TOLD: &str = "events compiled in, most additional allocations of a call with an event";
pub const UNEVEN: &str = "rate limit: time with an uneven rate over the time with an even rate";
pub const SECOND_POLL: &str = "time limit: answer on the second poll, time over tower's";
pub const FIRST_ATTEMPT: &str = "retry: first attempt succeeds, time over tower's";
pub const BALANCED: &str = "balance: one of 3 endpoints, time over tower's";
const PICKED: &str = "balance: time of a call among 100 endpoints over the time among 3";
pub(super) const SCOPED: &str = "context: time of a scope around a call, the id is made";
const SCOPES_MADE: &str = "context: allocations of a scope, the id is made";
const SCOPES_ACCEPTED: &str = "context: allocations of a scope, the id is accepted";
const READ: &str = "context: time of a read of the deadline";
pub const SIMULATED: &str = "simulator: requests per second of CPU time over SimPy's";
/// The allowed cost of counting for a layer, in nanoseconds.
const COUNTING: f64 = 12.0;

/// The number of layers in the rows of [`stack`].
const LAYERS: f64 = 6.0;

/// A limit on the instructions relative to another candidate of the row.
pub struct Target {
    pub row: Row,
    pub of: &'static str,
    pub times: f64,
}

pub const INSTRUCTIONS: [Target; 21] = [
    over(circuit_breaker::CONSECUTIVE, FLOOR, 1.5),
    over(circuit_breaker::COUNT, FLOOR, 1.6),
    over(circuit_breaker::COUNT_ONE_FAILED, RECLOSER, 1.0),
    over(circuit_breaker::TIME, FLOOR, 1.2),
    over(circuit_breaker::OPEN, FLOOR, 1.2),
    over(rate_limit::ADMITTED, FLOOR, 1.15),
    over(rate_limit::REFUSED, FLOOR, 1.15),
    over(rate_limit::KEYED, GOVERNOR, 1.0),
    over(bulkhead::ADMITTED, FLOOR, 1.6),
    over(bulkhead::REFUSED, FLOOR, 2.0),
    over(retry::FIRST, TOWER, 1.0),
    over(retry::BUDGET, TOWER, 0.5),
    over(time_limit::READY, TOWER, 0.65),
    over(time_limit::PENDING, FLOOR, 1.1),
    over(idempotency::STORED_BY_TEXT, FLOOR, 1.2),
    over(idempotency::FIRST_BY_TEXT, FLOOR, 1.2),
    over(fallback::PRIMARY, FLOOR, 2.0),
    over(balance::OF_3, TOWER, 0.5),
    over(balance::OF_100, TOWER, 0.5),
    over(stack::SIX, FLOOR, 1.5),
    over(stack::CLONED, FLOOR, 1.5),
];

const fn over(row: Row, of: &'static str, times: f64) -> Target {
    Target { row, of, times }
}

/// A target other than relative instructions. Without a value it has no verdict.
pub struct Judged {
    pub what: String,
    pub target: String,
    pub measured: String,
    pub reached: Option<bool>,
}

pub(super) fn at_most(
    what: &str,
    target: &str,
    most: f64,
    measured: Option<f64>,
    unit: &str,
) -> Judged {
    Judged {
        what: what.to_owned(),
        target: target.to_owned(),
        measured: or_none(measured.map(|value| format!("{value:.2}{unit}"))),
        reached: measured.map(|value| value <= most),
    }
}

/// The peer that needs the fewest instructions for a row.
pub fn best_peer<'a>(results: &'a Results, row: &'a str) -> Option<(&'a str, f64)> {
    let peers = results
        .table
        .of_row(row)
        .filter(|line| ![BUTTRESS, LEAKED, FLOOR, BARE].contains(&line.candidate.as_str()));
    let counted =
        peers.filter_map(|line| Some((line.candidate.as_str(), line.figures.instructions?)));
    counted.min_by(|(_, one), (_, other)| one.total_cmp(other))
}

/// Further attempts may allocate, a text key is stored, and so are a changed set, a scope and the log of a saga.
fn may_allocate(row: &str) -> bool {
    let may = [
        retry::AGAIN,
        retry::AGAIN_SELDOM,
        balance::CHANGE,
        context::MADE,
        context::ACCEPTED,
        context::READ,
        saga::FIVE_STEPS,
    ];
    may.iter().chain(&idempotency::ROWS).any(|known| row == known.name)
}

pub fn others(results: &Results) -> Vec<Judged> {
    let lines = results.table.lines.iter().filter(|line| !may_allocate(&line.row));
    let buttress = lines.filter(|line| line.candidate == BUTTRESS);
    let allocations = buttress.filter_map(|line| line.figures.allocations).reduce(f64::max);
    let nanos = |row: Row, who| results.table.get(row.name, who).and_then(|figures| figures.nanos);
    let theirs = [TOWER_RESILIENCE, stack::CHEAPER].map(|who| nanos(stack::SIX, who));
    let theirs = theirs.into_iter().flatten().reduce(f64::min);
    let tenth = nanos(stack::SIX, BUTTRESS).zip(theirs).map(|(ours, theirs)| ours / theirs);
    let counting = nanos(stack::COUNTED, BUTTRESS)
        .zip(nanos(stack::COUNTED, stack::NOT_COUNTED))
        .map(|(counted, not)| (counted - not) / LAYERS);
    let mut judged = vec![
        at_most(
            "most allocations of a call that has no key and is not retried",
            "0",
            0.0,
            allocations,
            "",
        ),
        at_most(TENTH, "0.10", 0.1, tenth, ""),
        at_most(COUNTED, "12 ns more", COUNTING, counting, " ns"),
        counting_on_two(results),
    ];
    judged.extend(contention::judged(&results.table));
    judged.extend(on_two::judged(&results.table));
    judged.extend(size::judged(&results.table));
    judged.extend(timed(results));
    judged.extend(balanced(results));
    judged.extend(scoped(results));
    judged.extend(idempotent(results));
    judged.extend(under_load(results));
    judged.extend(lasting(results));
    judged.extend(simulated_queue(results));
    judged
}

/// Times relative to another row or candidate of the same run.
fn timed(results: &Results) -> [Judged; 3] {
    let of = |row: Row, who| results.table.get(row.name, who).and_then(|figures| figures.nanos);
    let ratio =
        |one: Option<f64>, other| one.zip(other).map(|(one, other): (f64, f64)| one / other);
    let uneven = ratio(of(rate_limit::UNEVEN, BUTTRESS), of(rate_limit::ADMITTED, BUTTRESS));
    let pending = ratio(of(time_limit::PENDING, BUTTRESS), of(time_limit::PENDING, TOWER));
    let first = ratio(of(retry::FIRST, BUTTRESS), of(retry::FIRST, TOWER));
    [
        at_most(UNEVEN, "at most 1.15", 1.15, uneven, ""),
        at_most(SECOND_POLL, "at most 1.05", 1.05, pending, ""),
        at_most(FIRST_ATTEMPT, "at most 3", 3.0, first, ""),
    ]
}

/// The targets of the balancer.
fn balanced(results: &Results) -> [Judged; 2] {
    let of = |row: Row, who| results.table.get(row.name, who).and_then(|figures| figures.nanos);
    let ours = of(balance::OF_3, BUTTRESS);
    let call = ours.zip(of(balance::OF_3, TOWER)).map(|(ours, theirs)| ours / theirs);
    let pick = of(balance::OF_100, BUTTRESS).zip(ours).map(|(many, few)| many / few);
    [at_most(BALANCED, "at most 0.5", 0.5, call, ""), at_most(PICKED, "at most 1.1", 1.1, pick, "")]
}

/// The targets of the context.
fn scoped(results: &Results) -> [Judged; 4] {
    let of = |row: Row| results.table.get(row.name, BUTTRESS);
    let nanos = |row| of(row).and_then(|figures| figures.nanos);
    let allocations = |row| of(row).and_then(|figures| figures.allocations);
    let reads = nanos(context::READ).zip(nanos(context::MADE));
    let read = reads.map(|(reads, none)| (reads - none) / context::READS as f64);
    [
        at_most(SCOPED, "at most 60 ns", 60.0, nanos(context::MADE), " ns"),
        at_most(SCOPES_MADE, "1", 1.0, allocations(context::MADE), ""),
        at_most(SCOPES_ACCEPTED, "2", 2.0, allocations(context::ACCEPTED), ""),
        at_most(READ, "at most 2 ns", 2.0, read, " ns"),
    ]
}

/// Instructions of idempotency. Its floor is no reference, because it never removes expired
/// answers.
fn idempotent(results: &Results) -> [Judged; 2] {
    let bounds = [(idempotency::STORED, 400), (idempotency::FIRST, 1000)];
    bounds.map(|(row, bound)| {
        let figures = results.table.get(row.name, BUTTRESS);
        let most = f64::from(bound) - 0.5;
        let counted = figures.and_then(|figures| figures.instructions);
        at_most(row.name, &format!("below {bound} instructions"), most, counted, "")
    })
}

/// The targets of durable work. The targets of PostgreSQL are included only if a server was
/// available.
fn lasting(results: &Results) -> Vec<Judged> {
    let found = |what: &str| value(&results.durable, what, BUTTRESS);
    let at_least = |what: &str, least: f64, target: &str, unit: &str| {
        let mut judged = at_most(what, target, f64::MAX, found(what), unit);
        judged.reached = found(what).map(|value| value >= least);
        judged
    };
    let times = |what, least, peer| {
        at_least(what, least, &format!("at least {least} times {peer}'s rate"), "x")
    };
    let relayed = |what| at_least(what, 10_000.0, "at least 10 000/s, in order", "/s");
    let waits = |what| at_most(what, "at most 50 ms", 50.0, found(what), " ms");
    let mut judged = vec![
        times(durable::MEMORY_ON_ONE, 5.0, durable::STENO),
        times(durable::MEMORY_ON_TWO, 5.0, durable::STENO),
        times(durable::SQLITE_NORMAL, 3.0, durable::DURARE),
        times(durable::SQLITE_FULL, 3.0, durable::DURARE),
        relayed(durable::RELAY_SQLITE),
        relayed(durable::RELAY_SQLITE_BESIDE),
        waits(durable::WAIT_SAGAS),
        waits(durable::WAIT_RELAY),
    ];
    if found(durable::RELAY_POSTGRES).is_some() {
        judged.push(relayed(durable::RELAY_POSTGRES));
        judged.push(relayed(durable::RELAY_POSTGRES_BESIDE));
        judged.push(waits(durable::WAIT_POSTGRES));
    }
    let held = value(&results.memory, SAGAS, BUTTRESS);
    judged.push(at_most(SAGAS, "at most 1 000", 1000.0, held, ""));
    judged
}

/// The target relative to SimPy, if Python has it.
fn simulated_queue(results: &Results) -> Option<Judged> {
    let found = |who| value(&results.simulators, simulated::QUEUE, who);
    let times = found(simulated::OWN)? / found(simulated::SIMPY)?;
    Some(Judged {
        what: SIMULATED.to_owned(),
        target: "at least 25".to_owned(),
        measured: format!("{times:.1}x"),
        reached: Some(times >= 25.0),
    })
}

/// The cost of counting in each round in which both count. Two cores that share cache lines vary by
/// more than the difference in question. So a miss is only what three quarters of the rounds show.
fn counting_on_two(results: &Results) -> Judged {
    let rounds = |who| {
        let figures = results.table.get(stack::COUNTED.name, who);
        figures.map_or(&[][..], |figures| figures.nanos_of_two.as_slice())
    };
    let pairs = rounds(BUTTRESS).iter().zip(rounds(stack::NOT_COUNTED));
    let differences = pairs.filter_map(|(counted, not)| Some(((*counted)? - (*not)?) / LAYERS));
    let differences: Vec<f64> = differences.collect();
    let pairs = differences.len();
    let spread = Spread::of(differences);
    Judged {
        what: COUNTING_ON_TWO.to_owned(),
        target: "12 ns more; missed if the lower quartile is above".to_owned(),
        measured: or_none(spread.map(|spread| format!("{spread} ns, {pairs} pairs of rounds"))),
        reached: spread.map(|spread| spread.lower <= COUNTING),
    }
}

/// The targets of the probes.
fn under_load(results: &Results) -> Vec<Judged> {
    let probe = |what: &str| value(&results.probes, what, BUTTRESS);
    let held_by = |what: &str, who| value(&results.memory, what, who);
    let shed = value(&results.probes, probes::FULL, TOWER);
    let tower = held_by(LIMITED, TOWER);
    let grown = held_by(MANY, BUTTRESS).zip(held_by(FEW, BUTTRESS)).map(|(many, few)| many / few);
    let ours = || results.events.iter().filter(|events| events.candidate == BUTTRESS);
    let slower = ours().find_map(|events| events.nanos).map(|[without, with]| with / without);
    let of_six = ours().find(|events| events.row == stack::SIX.name);
    let told = ours().map(|events| events.allocations[1] - events.allocations[0]);
    let text = |bound: Option<f64>, unit: &str| {
        or_none(bound.map(|bound| format!("at most {bound:.0}{unit}")))
    };
    let mut opening = at_most(probes::OPENING, "50", 50.0, probe(probes::OPENING), "");
    opening.reached = probe(probes::OPENING).map(|failures| failures == 50.0);
    let at_least = |what, least| {
        let bound = format!("{least} or more");
        let mut target = at_most(what, &bound, f64::MAX, probe(what), "");
        target.reached = probe(what).map(|share| share >= least);
        target
    };
    vec![
        opening,
        at_most(probes::WINDOW, "at most 1.1", 1.1, probe(probes::WINDOW), ""),
        at_most("time window: bytes with 10 000 calls over 100", "1", 1.0, grown, ""),
        at_most(
            "open breaker refusing on two threads, p99.9",
            "below 1 µs",
            999.0,
            probe(probes::OPEN),
            " ns",
        ),
        at_most(
            "full bulkhead refusing, p50",
            &format!("{}, LoadShed's", text(shed, " ns")),
            shed.unwrap_or(f64::NAN),
            probe(probes::FULL),
            " ns",
        ),
        at_most(
            probes::ZERO_BACKOFF,
            "no timer: below 1 µs",
            999.0,
            probe(probes::ZERO_BACKOFF),
            " ns",
        ),
        at_least(probes::RATE, 0.99),
        at_least(probes::LINE, 0.95),
        at_most(probes::RATE_CPU, "at most 5 %", 5.0, probe(probes::RATE_CPU), " %"),
        at_most(probes::RATE_ORDER, "none overtaken", 0.0, probe(probes::RATE_ORDER), " %"),
        at_most(probes::POLLS, "at most 2", 2.0, probe(probes::POLLS), ""),
        at_most(
            LIMITED,
            &format!("{}, tower's", text(tower, "")),
            tower.unwrap_or(f64::NAN),
            held_by(LIMITED, BUTTRESS),
            "",
        ),
        at_most(SIX, "below 688: 560 and the state", 687.9, held_by(SIX, BUTTRESS), ""),
        at_most(
            "events compiled in, time of six layers over without",
            "at most 1.1",
            1.1,
            slower,
            "",
        ),
        at_most(
            "events compiled in, allocations of six layers",
            "0",
            0.0,
            of_six.map(|events| events.allocations[1]),
            "",
        ),
        at_most(TOLD, "0", 0.0, told.reduce(f64::max), ""),
    ]
}

#[cfg(test)]
mod tests {
    use super::may_allocate;

    #[test]
    fn every_row_of_the_baseline_that_allocates_is_known() {
        let baseline = include_str!("../../baseline.tsv");
        let unknown = baseline.lines().filter_map(|line| {
            let mut fields = line.split('\t');
            let (row, _instructions, allocations) =
                (fields.next()?, fields.next()?, fields.next()?);
            let allocates = allocations.parse().is_ok_and(|count: f64| count > 0.0);
            (allocates && !may_allocate(row)).then_some(row)
        });
        assert_eq!(unknown.collect::<Vec<_>>(), [""; 0]);
    }
}
