//! The decisions of a balancer about its set: which endpoints are in, and until when the others are out.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::history::{History, nanos};
use super::outliers::Outliers;
use crate::discover::Instance;
use crate::vocabulary::words::words;

/// How many removed endpoints are remembered.
const REMEMBERED: usize = 256;
/// The first and the longest rest of an endpoint whose `poll_ready` failed, in nanoseconds.
const FIRST_REST: u64 = 100_000_000;
const LONGEST_REST: u64 = 10_000_000_000;

/// The state of an endpoint, for operators.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum EndpointState {
    /// The endpoint gets calls.
    In,
    /// The endpoint failed too often, and is out until its ejection ends.
    Ejected,
    /// The endpoint failed to become ready, and is asked again after a rest.
    Resting,
    /// A health check, or an operator, marked the endpoint as down.
    Down,
}

impl EndpointState {
    /// Every state, in the order of declaration.
    pub const ALL: &'static [Self] = &[Self::In, Self::Ejected, Self::Resting, Self::Down];
}

words! {
    /// Returns the state in kebab case, for logs and metrics.
    EndpointState {
        In => "in", Ejected => "ejected", Resting => "resting", Down => "down",
    }
}

/// Whether an endpoint is in, and its past. Instants are nanoseconds since the anchor of the balancer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    ejected_until: Option<u64>,
    /// Ejections that still count.
    times: u32,
    /// The end of the last ejection.
    returned: u64,
    rests_until: Option<u64>,
    down: bool,
    /// The instant at which the endpoint joined a set that others served before it, and how long it is new.
    pub new: Option<(u64, u64)>,
}

impl Standing {
    pub(super) fn state(&self) -> EndpointState {
        if self.down {
            EndpointState::Down
        } else if self.rests_until.is_some() {
            EndpointState::Resting
        } else if self.ejected_until.is_some() {
            EndpointState::Ejected
        } else {
            EndpointState::In
        }
    }
}

/// One endpoint of the set.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub instance: Instance,
    pub history: Arc<History>,
    pub standing: Standing,
}

/// The stack of an endpoint after a change of the set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stack {
    /// The stack of the member at this place in the old set.
    Kept(usize),
    /// A new one.
    New,
}

/// The difference between two sets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Change {
    /// The stack of each member of the new set.
    pub stacks: Vec<Stack>,
    pub added: usize,
    pub removed: usize,
}

/// Which members calls may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Choices {
    pub places: Vec<usize>,
    /// No member is in, so these are out.
    pub panic: bool,
    /// The instant at which the next member comes back; `u64::MAX` if none is out.
    pub next: u64,
}

/// An ejection, as reported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// The endpoint goes out for this long.
    Ejected(Duration),
    /// Half of the endpoints are out already.
    Spared,
    /// It is gone, or out already.
    Nothing,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub members: Vec<Member>,
    /// Removed members, the oldest first.
    removed: VecDeque<Member>,
}

impl State {
    /// Returns the change from the current set to `wanted`, whose ids differ, or `None` if there is none.
    pub(super) fn change_to(&self, wanted: &[Instance]) -> Option<Change> {
        let mut change = Change::default();
        let mut places: Option<HashMap<&str, usize>> = None;
        let mut same = wanted.len() == self.members.len();
        let mut kept = 0;
        for (at, instance) in wanted.iter().enumerate() {
            let is_here = |place: &usize| {
                let member = self.members.get(*place);
                member.is_some_and(|member| member.instance.id() == instance.id())
            };
            // Most often an instance keeps its place.
            let place = Some(at).filter(is_here).or_else(|| {
                let index =
                    || self.members.iter().enumerate().map(|(at, it)| (it.instance.id(), at));
                places.get_or_insert_with(|| index().collect()).get(instance.id()).copied()
            });
            let known = place.and_then(|place| Some((place, self.members.get(place)?)));
            same &= place == Some(at) && known.is_some_and(|(_, it)| it.instance == *instance);
            let stack = match known {
                Some((place, member)) if member.instance.is_served_like(instance) => {
                    Stack::Kept(place)
                }
                _ => Stack::New,
            };
            let stays = known.is_some_and(|(_, it)| it.instance.address() == instance.address());
            change.added += usize::from(!stays);
            kept += usize::from(stays);
            change.stacks.push(stack);
        }
        change.removed = self.members.len() - kept;
        if same { None } else { Some(change) }
    }

    /// Replaces the set by `wanted`, whose ids differ.
    /// An endpoint that joins others is new for `ramp` nanoseconds.
    pub(super) fn replace(&mut self, wanted: &[Instance], now: u64, ramp: u64) {
        let mut old: HashMap<&str, usize> = HashMap::new();
        let before = std::mem::take(&mut self.members);
        old.extend(before.iter().enumerate().map(|(at, it)| (it.instance.id(), at)));
        let levels: Vec<u64> = before.iter().map(|it| it.history.measure.level()).collect();
        let mut stays = BTreeSet::new();
        for instance in wanted {
            let place = old.get(instance.id()).copied();
            let known = place.and_then(|place| before.get(place));
            let known = known.filter(|it| it.instance.address() == instance.address());
            let (history, standing) = match (known, place) {
                (Some(member), Some(place)) => {
                    stays.insert(place);
                    (member.history.clone(), member.standing)
                }
                _ => self.recall(instance).unwrap_or_else(|| {
                    let new = if before.is_empty() { None } else { Some((now, ramp)) };
                    let history = History::new(instance.id(), now, &levels);
                    (Arc::new(history), Standing { new, ..Standing::default() })
                }),
            };
            self.members.push(Member { instance: instance.clone(), history, standing });
        }
        drop(old);
        let wanted_ids: BTreeSet<&str> = wanted.iter().map(Instance::id).collect();
        for (place, member) in before.into_iter().enumerate() {
            // A member whose address has changed is another endpoint from now on.
            if !stays.contains(&place) && !wanted_ids.contains(member.instance.id()) {
                self.removed.push_back(member);
            }
        }
        while self.removed.len() > REMEMBERED {
            self.removed.pop_front();
        }
        self.turn(now);
        self.keep_half();
    }

    /// Returns the past of an instance that was removed, if it comes back under its address.
    fn recall(&mut self, instance: &Instance) -> Option<(Arc<History>, Standing)> {
        if self.removed.is_empty() {
            return None;
        }
        let place = self.removed.iter().position(|it| it.instance.id() == instance.id())?;
        let member = self.removed.remove(place)?;
        let same = member.instance.address() == instance.address();
        same.then_some((member.history, member.standing))
    }

    fn ejected(&self) -> usize {
        self.members.iter().filter(|it| it.standing.ejected_until.is_some()).count()
    }

    fn most_ejected(&self) -> usize {
        self.members.len() / 2
    }

    /// Takes ejected endpoints back while more than half of a set that became smaller are out.
    fn keep_half(&mut self) {
        for _ in self.most_ejected()..self.ejected() {
            let out = self.members.iter_mut().filter(|it| it.standing.ejected_until.is_some());
            if let Some(first) = out.min_by_key(|it| it.standing.ejected_until) {
                come_back(first);
            }
        }
    }

    /// Takes back the endpoints whose time has come. Returns their places.
    pub(super) fn turn(&mut self, now: u64) -> Vec<usize> {
        let mut back = Vec::new();
        for (place, member) in self.members.iter_mut().enumerate() {
            let standing = &mut member.standing;
            if standing.rests_until.is_some_and(|until| until <= now) {
                standing.rests_until = None;
            }
            if standing.ejected_until.is_some_and(|until| until <= now) {
                come_back(member);
                back.push(place);
            }
        }
        back
    }

    /// Decides about an endpoint whose failures have reached the bound of `rules`. `jitter` is from -1 to 1.
    pub(super) fn eject(
        &mut self,
        serial: u64,
        now: u64,
        rules: &Outliers,
        jitter: f64,
    ) -> Decision {
        let may = self.ejected() < self.most_ejected();
        let Some(member) = self.members.iter_mut().find(|it| it.history.serial == serial) else {
            return Decision::Nothing;
        };
        let standing = &mut member.standing;
        if standing.ejected_until.is_some() {
            return Decision::Nothing;
        }
        if !may {
            return Decision::Spared;
        }
        let away = nanos(rules.away).max(1);
        // One less for each time that the endpoint stayed in since.
        let stayed = now.saturating_sub(standing.returned) / away;
        let left = u64::from(standing.times).saturating_sub(stayed);
        standing.times = (left + 1).min(u64::from(u32::MAX)) as u32;
        let time = away.saturating_mul(standing.times.into());
        let time = jittered(time, jitter).min(nanos(rules.longest));
        standing.ejected_until = Some(now.saturating_add(time));
        member.history.forget_results();
        Decision::Ejected(Duration::from_nanos(time))
    }

    /// Lets an endpoint rest whose `poll_ready` failed. Returns how long, or `None` if it rests already or is gone.
    pub(super) fn rest(&mut self, serial: u64, now: u64, jitter: f64) -> Option<Duration> {
        let member = self.members.iter_mut().find(|it| it.history.serial == serial)?;
        if member.standing.rests_until.is_some_and(|until| until > now) {
            return None;
        }
        let doublings = (member.history.was_unready() - 1).min(16);
        let rest = (FIRST_REST << doublings).min(LONGEST_REST);
        let rest = jittered(rest, jitter).min(LONGEST_REST);
        member.standing.rests_until = Some(now.saturating_add(rest));
        Some(Duration::from_nanos(rest))
    }

    /// Marks an endpoint as down or up. Returns `false` if there is no endpoint `id`, and `None` if nothing changed.
    pub(super) fn mark(&mut self, id: &str, down: bool) -> Option<bool> {
        let Some(member) = self.members.iter_mut().find(|it| it.instance.id() == id) else {
            return Some(false);
        };
        let changed = std::mem::replace(&mut member.standing.down, down) != down;
        changed.then_some(true)
    }

    /// Returns the members that calls may use: the members that are in, or else all members that do not rest.
    pub(super) fn choices(&self) -> Choices {
        let standings = || self.members.iter().map(|it| &it.standing).enumerate();
        let of = |wanted: fn(&Standing) -> bool| -> Vec<usize> {
            standings().filter(|(_, it)| wanted(it)).map(|(place, _)| place).collect()
        };
        let mut places = of(|it| it.state() == EndpointState::In);
        let panic = places.is_empty();
        if panic {
            places = of(|it| it.rests_until.is_none());
        }
        let ends = standings().flat_map(|(_, it)| [it.ejected_until, it.rests_until]);
        let next = ends.flatten().min().unwrap_or(u64::MAX);
        Choices { panic: panic && !places.is_empty(), places, next }
    }
}

fn come_back(member: &mut Member) {
    if let Some(until) = member.standing.ejected_until.take() {
        member.standing.returned = until;
        member.history.forget_results();
    }
}

/// Changes `time` by up to a tenth. `jitter` is from -1 to 1.
pub(super) fn jittered(time: u64, jitter: f64) -> u64 {
    (time as f64 * (1.0 + jitter / 10.0)) as u64
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "state/tests.rs"]
mod tests;
