//! The choice among the endpoints that calls may use.

use std::sync::Arc;

use super::config::Policy;
use super::history::{DECAY, History, mix};
use super::state::{Choices, Member};
use crate::sync::{AtomicU64, Ordering};

/// The least share of its turns that a new endpoint takes.
const LEAST: f64 = 0.1;
/// One choice of 256 by latency is the other endpoint.
const EXPLORE: u64 = 0xff;

/// The endpoints that calls may use, prepared for choices. It never changes.
#[derive(Debug)]
pub(super) struct Plan {
    seats: Box<[Seat]>,
    /// The sum of all weights, the length of a round.
    round: u64,
    /// The step from one turn of a round to the next. It has no divisor in common with the round, so each turn comes
    /// up once, and it is about 0.618 of the round, so the turns of an endpoint are spread.
    stride: u64,
    equal_weights: bool,
    /// The last instant at which an endpoint is new.
    ramps_until: u64,
    pub panic: bool,
    /// The instant at which the set changes without a call.
    pub next: u64,
    /// How many endpoints the set has, in and out.
    pub members: usize,
}

#[derive(Debug)]
struct Seat {
    history: Arc<History>,
    /// The index in the history, so that a choice by key reads only the seats.
    serial: u64,
    key: u64,
    weight: f64,
    /// `-DECAY * ln(weight)`: the weight, as a difference of levels.
    bias: f64,
    /// The turns of a round up to and with the turns of this endpoint.
    turns: u64,
    new: Option<(u64, u64)>,
}

/// One choice to make.
#[derive(Clone, Copy)]
pub(super) struct Choice<'a> {
    pub policy: Policy,
    /// Random bits.
    pub draw: u64,
    pub now: u64,
    /// The turn of the next call.
    pub turn: &'a AtomicU64,
}

impl Plan {
    pub(super) fn new(members: &[Member], choices: &Choices) -> Self {
        let (mut round, mut ramps_until) = (0_u64, 0);
        let chosen = choices.places.iter().filter_map(|place| members.get(*place));
        let seats: Box<[Seat]> = chosen
            .map(|member| {
                let weight = member.instance.weight();
                round += u64::from(weight);
                let new = member.standing.new;
                let ends = new.map_or(0, |(joined, ramp)| joined.saturating_add(ramp));
                ramps_until = ramps_until.max(ends);
                Seat {
                    history: member.history.clone(),
                    serial: member.history.serial,
                    key: member.history.key,
                    weight: weight.into(),
                    bias: -DECAY * f64::from(weight).ln(),
                    turns: round,
                    new,
                }
            })
            .collect();
        let first = seats.first().map_or(0.0, |seat| seat.weight);
        let equal_weights = seats.iter().all(|seat| seat.weight.total_cmp(&first).is_eq());
        let (panic, next, members) = (choices.panic, choices.next, members.len());
        let stride = stride(round);
        Self { seats, round, stride, equal_weights, ramps_until, panic, next, members }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// Returns the place that `choice` falls on. `None` if there is no endpoint.
    #[inline]
    pub(super) fn choose(&self, choice: Choice<'_>) -> Option<usize> {
        self.choose_among(choice, |_| true)
    }

    /// Returns the place that `choice` falls on, among those whose number `may` permits.
    #[inline]
    pub(super) fn choose_among(
        &self,
        choice: Choice<'_>,
        may: impl Fn(u64) -> bool,
    ) -> Option<usize> {
        let may = |place: &usize| self.seats.get(*place).is_some_and(|seat| may(seat.serial));
        let (place, other) = match choice.policy {
            Policy::RoundRobin => {
                let place = self.take_turn(choice.turn)?;
                (self.from(place, &may)?, None)
            }
            policy => {
                let (one, two) = self.draw_two(choice.draw, &may)?;
                let explores = policy == Policy::PeakEwma && choice.draw & EXPLORE == 0;
                let load = |place| self.load(place, policy, choice.now);
                let swap = (load(two) < load(one)) != explores;
                if swap { (two, Some(one)) } else { (one, Some(two)) }
            }
        };
        if choice.now < self.ramps_until && self.is_too_new(place, choice) {
            return other.or_else(|| self.from(place + 1, &may)).or(Some(place));
        }
        Some(place)
    }

    /// Returns the place with the highest score of `key`: rendezvous hashing (Thaler and Ravishankar, 1998), with
    /// weights as in Schindelhauer and Schomaker, "Weighted distributed hash tables" (2005).
    pub(super) fn rendezvous(&self, key: u64, may: impl Fn(u64) -> bool) -> Option<usize> {
        let score = |seat: &Seat| mix(key ^ seat.key);
        let seats = self.seats.iter().enumerate().filter(|(_, seat)| may(seat.serial));
        if self.equal_weights {
            return seats.max_by_key(|(_, seat)| score(seat)).map(|(place, _)| place);
        }
        let weighted = |seat: &Seat| {
            // From 0 to 1, both excluded.
            let even = ((score(seat) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
            seat.weight / -even.ln()
        };
        let scores = seats.map(|(place, seat)| (place, weighted(seat)));
        scores.max_by(|(_, one), (_, two)| one.total_cmp(two)).map(|(place, _)| place)
    }

    /// Returns two places, drawn evenly. They are the same if there is only one.
    #[inline]
    fn draw_two(&self, draw: u64, may: &impl Fn(&usize) -> bool) -> Option<(usize, usize)> {
        let count = self.seats.len() as u64;
        if count > 1 {
            let one = ((draw & 0xffff_ffff) * count) >> 32;
            let two = ((draw >> 32) * (count - 1)) >> 32;
            let two = if two >= one { two + 1 } else { two };
            let (one, two) = (one as usize, two as usize);
            if may(&one) && may(&two) {
                return Some((one, two));
            }
        }
        self.draw_of_few(draw, may)
    }

    /// Like [`draw_two`](Self::draw_two), where some places may not be used: one pass, in which each place that may
    /// be used takes one of the two with the right chance.
    #[cold]
    fn draw_of_few(&self, draw: u64, may: &impl Fn(&usize) -> bool) -> Option<(usize, usize)> {
        let mut drawn: Option<(usize, usize)> = None;
        let (mut seen, mut draw) = (0_u64, draw);
        for place in (0..self.seats.len()).filter(may) {
            seen += 1;
            drawn = match drawn {
                None => Some((place, place)),
                Some((one, _)) if seen == 2 => Some((one, place)),
                Some((one, two)) => {
                    draw = mix(draw);
                    match ((draw >> 32) * seen) >> 32 {
                        0 => Some((place, two)),
                        1 => Some((one, place)),
                        _ => Some((one, two)),
                    }
                }
            };
        }
        // Of two equal loads the first is chosen, so each is first as often as the other.
        let flip = mix(draw) & 1 == 1;
        drawn.map(|(one, two)| if flip { (two, one) } else { (one, two) })
    }

    #[inline]
    fn load(&self, place: usize, policy: Policy, now: u64) -> f64 {
        let Some(seat) = self.seats.get(place) else { return f64::MAX };
        let pending = f64::from(seat.history.pending()) + 1.0;
        match policy {
            Policy::PeakEwma => {
                seat.history.measure.level() as f64 + DECAY * pending.ln() + seat.bias
            }
            _ => pending * seat.history.penalty.at(now) / seat.weight,
        }
    }

    /// Returns the mean load of the endpoints but `serial`, as a level. `None` if there are no others.
    pub(super) fn load_of_others(&self, serial: u64) -> Option<u64> {
        let others = || (0..self.seats.len()).filter(|place| !self.is_at(*place, serial));
        let loads = others().map(|place| self.load(place, Policy::PeakEwma, 0));
        let count = others().count();
        (count > 0).then(|| (loads.sum::<f64>() / count as f64).max(0.0) as u64)
    }

    fn is_at(&self, place: usize, serial: u64) -> bool {
        self.seats.get(place).is_some_and(|seat| seat.serial == serial)
    }

    fn take_turn(&self, turn: &AtomicU64) -> Option<usize> {
        if self.round == 0 {
            return None;
        }
        // Relaxed: a lone counter.
        let turn = turn.fetch_add(1, Ordering::Relaxed) % self.round;
        let turn = (u128::from(turn) * u128::from(self.stride)) % u128::from(self.round);
        Some(self.seats.partition_point(|seat| u128::from(seat.turns) <= turn))
    }

    /// Returns the first place at or after `place` that may be used, from the beginning again after the last.
    fn from(&self, place: usize, may: &impl Fn(&usize) -> bool) -> Option<usize> {
        let count = self.seats.len();
        (0..count).map(|step| (place + step) % count).find(may)
    }

    /// Returns `true` if a new endpoint passes this turn on.
    #[cold]
    fn is_too_new(&self, place: usize, choice: Choice<'_>) -> bool {
        let new = self.seats.get(place).and_then(|seat| seat.new);
        let Some((joined, ramp)) = new else { return false };
        let age = choice.now.saturating_sub(joined);
        let share = (age as f64 / ramp.max(1) as f64).max(LEAST);
        (mix(choice.draw) >> 11) as f64 / (1_u64 << 53) as f64 >= share
    }
}

/// Returns the step closest to 0.618 of `round` that has no divisor in common with it.
fn stride(round: u64) -> u64 {
    fn gcd(one: u64, two: u64) -> u64 {
        if two == 0 { one } else { gcd(two, one % two) }
    }
    let golden = (round as f64 * 0.618_033_988_749_894_9).round() as u64;
    let mut near = (0..round).flat_map(|far| [golden + far, golden.saturating_sub(far)]);
    near.find(|step| *step > 0 && gcd(round, *step) == 1).unwrap_or(1)
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "choice/tests.rs"]
mod tests;
