use std::time::Duration;

/// What state a system is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PhaseKind {
    /// What is offered is served.
    Stable,
    /// It is not, and there is a reason: a fault, or a load that it has never borne.
    Overloaded,
    /// It is not, though the reason is gone, but soon will be: what had piled up is being worked off.
    Recovering,
    /// It is not, though nothing is wrong any more and the same load was served before: it keeps itself down
    /// (Bronson et al., "Metastable failures in distributed systems", 2021).
    Metastable,
}

impl PhaseKind {
    /// The kind in lower case, for reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Overloaded => "overloaded",
            Self::Recovering => "recovering",
            Self::Metastable => "metastable",
        }
    }
}

/// A stretch of a run in one state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Phase {
    /// Which.
    pub kind: PhaseKind,
    /// From when on, since the start.
    pub from: Duration,
    /// Until when.
    pub to: Duration,
}

/// What followed a trigger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// When the trigger was gone.
    pub trigger_ended: Duration,
    /// How long after that everything was served again, and stayed so; `None` if it did not before the next
    /// trigger, or the end of the run.
    pub after: Option<Duration>,
}

/// What phases are found from: one of these for each window.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Sample {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    pub(crate) offered: u64,
    pub(crate) good: u64,
    /// A fault was there at some time of the window.
    pub(crate) faulty: bool,
}

/// What a window is taken alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Look {
    Fine,
    /// Not served, for a reason.
    Caused,
    /// Not served, without one.
    Uncaused,
}

/// How a run went. `healthy` is the share of the offered load that has to be served; what is down without
/// a cause for `patience` windows or more is metastable.
pub(crate) fn find(samples: &[Sample], healthy: f64, patience: usize) -> Vec<Phase> {
    let looks = looks(samples, healthy);
    let mut phases: Vec<Phase> = Vec::new();
    let mut rest = looks.as_slice();
    let mut times = samples.iter();
    while let Some(first) = rest.first() {
        let length = rest.iter().take_while(|look| *look == first).count();
        let kind = match first {
            Look::Fine => PhaseKind::Stable,
            Look::Caused => PhaseKind::Overloaded,
            Look::Uncaused if length >= patience => PhaseKind::Metastable,
            Look::Uncaused => PhaseKind::Recovering,
        };
        let stretch: Vec<&Sample> = times.by_ref().take(length).collect();
        if let (Some(first), Some(last)) = (stretch.first(), stretch.last()) {
            match phases.last_mut() {
                Some(before) if before.kind == kind => before.to = last.to,
                _ => phases.push(Phase { kind, from: first.from, to: last.to }),
            }
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    phases
}

/// What followed each trigger: each stretch of windows with a fault, or with a load that was not borne.
pub(crate) fn recovery(samples: &[Sample], healthy: f64) -> Vec<Recovery> {
    let looks = looks(samples, healthy);
    let trigger = |index: usize| {
        let faulty = samples.get(index).is_some_and(|sample| sample.faulty);
        faulty || looks.get(index) == Some(&Look::Caused)
    };
    let mut found = Vec::new();
    for index in 1..samples.len() {
        if !trigger(index - 1) || trigger(index) {
            continue;
        }
        let Some(trigger_ended) = samples.get(index).map(|sample| sample.from) else { break };
        let until = (index..samples.len()).find(|index| trigger(*index)).unwrap_or(samples.len());
        // From the last window that was down on, if there is one after that.
        let down = (index..until).rev().find(|index| looks.get(*index) != Some(&Look::Fine));
        let fine_from = down.map_or(index, |down| down + 1);
        let after = (fine_from < until)
            .then(|| samples.get(fine_from).map(|sample| sample.from - trigger_ended))
            .flatten();
        found.push(Recovery { trigger_ended, after });
    }
    found
}

/// A load counts as borne once it was answered for this many windows in a row. Shorter, a queue may have
/// swallowed it.
const BORNE: usize = 10;

fn looks(samples: &[Sample], healthy: f64) -> Vec<Look> {
    let mut borne: f64 = 0.0;
    let mut fine = 0;
    let mut looks: Vec<Look> = Vec::with_capacity(samples.len());
    let mut borne_before: Vec<f64> = Vec::with_capacity(samples.len());
    for (index, sample) in samples.iter().enumerate() {
        let (offered, good) = (sample.offered as f64, sample.good as f64);
        // What begins in a window may end in the next: chance alone must not look like failure.
        let noise = 3.0 * offered.sqrt();
        let served = good >= healthy * offered - noise.min(0.5 * offered);
        borne_before.push(borne);
        looks.push(match served {
            true => Look::Fine,
            false if sample.faulty || !bearable(offered, borne, 1) => Look::Caused,
            false => Look::Uncaused,
        });
        fine = if served && !sample.faulty { fine + 1 } else { 0 };
        if fine >= BORNE {
            let last = samples.get(index + 1 - BORNE..=index).unwrap_or_default();
            // What was answered, not what was offered: the noise above lets a load pass that was not answered.
            let sum: u64 = last.iter().map(|sample| sample.offered.min(sample.good)).sum();
            borne = borne.max(sum as f64 / BORNE as f64);
        }
    }
    smooth(&mut looks, samples);
    judge_stretches(&mut looks, samples, &borne_before);
    looks
}

/// Whether a load of `offered` in `windows` is one that was borne before: at most 5 % above, and two
/// deviations of a Poisson process.
fn bearable(offered: f64, borne: f64, windows: usize) -> bool {
    offered <= borne * windows as f64 * 1.05 + 2.0 * offered.sqrt()
}

/// Judges what is down without a cause as a whole, not window by window. It has a cause after all if the sum of
/// its load was never borne, or if it leads from a served load straight to one that was never borne: then the
/// load was on its way there.
fn judge_stretches(looks: &mut [Look], samples: &[Sample], borne_before: &[f64]) {
    let mut from = 0;
    while let Some(look) = looks.get(from).copied() {
        let rest = looks.get(from..).unwrap_or_default();
        let to = from + rest.iter().take_while(|other| **other == look).count();
        let stretch = samples.get(from..to).unwrap_or_default();
        let load: u64 = stretch.iter().map(|sample| sample.offered).sum();
        let borne = borne_before.get(from).copied().unwrap_or_default();
        let begins = from.checked_sub(1).and_then(|before| looks.get(before));
        let on_its_way = !matches!(begins, Some(Look::Caused))
            && looks.get(to) == Some(&Look::Caused)
            && samples.get(to).is_some_and(|sample| !sample.faulty);
        let had_cause = on_its_way || !bearable(load as f64, borne, stretch.len());
        if look == Look::Uncaused
            && had_cause
            && let Some(looks) = looks.get_mut(from..to)
        {
            looks.fill(Look::Caused);
        }
        from = to;
    }
}

/// One window that differs from both its neighbours is chance, unless there was a fault.
fn smooth(looks: &mut [Look], samples: &[Sample]) {
    for index in 1..looks.len().saturating_sub(1) {
        let faulty = samples.get(index).is_some_and(|sample| sample.faulty);
        if let [before, between, after] = looks.get_mut(index - 1..=index + 1).unwrap_or_default()
            && before == after
            && !faulty
        {
            *between = *before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sec(s: usize) -> Duration {
        Duration::from_secs(s as u64)
    }

    fn samples(windows: &[(u64, u64, bool)]) -> Vec<Sample> {
        let one = |(n, (offered, good, faulty)): (usize, &(u64, u64, bool))| Sample {
            from: sec(n),
            to: sec(n + 1),
            offered: *offered,
            good: *good,
            faulty: *faulty,
        };
        windows.iter().enumerate().map(one).collect()
    }

    fn kinds(windows: &[(u64, u64, bool)]) -> Vec<(PhaseKind, u64)> {
        let phases = find(&samples(windows), 0.9, 10);
        phases.iter().map(|phase| (phase.kind, (phase.to - phase.from).as_secs())).collect()
    }

    fn after(windows: &[(u64, u64, bool)]) -> Vec<Option<Duration>> {
        recovery(&samples(windows), 0.9).iter().map(|recovery| recovery.after).collect()
    }

    const FINE: (u64, u64, bool) = (1000, 1000, false);
    const DOWN: (u64, u64, bool) = (1000, 100, false);
    const FAULT: (u64, u64, bool) = (1000, 0, true);

    fn run(parts: &[((u64, u64, bool), usize)]) -> Vec<(u64, u64, bool)> {
        parts.iter().flat_map(|(window, n)| std::iter::repeat_n(*window, *n)).collect()
    }

    #[test]
    fn a_system_that_stays_down_after_its_trigger_is_metastable() {
        use PhaseKind::{Metastable, Overloaded, Recovering, Stable};
        let stays = run(&[(FINE, 20), (FAULT, 3), (DOWN, 40)]);
        assert_eq!(kinds(&stays), [(Stable, 20), (Overloaded, 3), (Metastable, 40)]);
        assert_eq!(after(&stays), [None]);
        let comes_back = run(&[(FINE, 20), (FAULT, 3), (DOWN, 4), (FINE, 30)]);
        assert_eq!(
            kinds(&comes_back),
            [(Stable, 20), (Overloaded, 3), (Recovering, 4), (Stable, 30)]
        );
        assert_eq!(after(&comes_back), [Some(sec(4))]);
        let at_once = run(&[(FINE, 20), (FAULT, 3), (FINE, 30)]);
        assert_eq!(after(&at_once), [Some(Duration::ZERO)]);
    }

    #[test]
    fn a_load_that_was_never_borne_is_plain_overload() {
        use PhaseKind::{Metastable, Overloaded, Stable};
        let spike = ((3000, 900, false), 10);
        assert_eq!(kinds(&run(&[spike])), [(Overloaded, 10)]);
        // A queue swallows the first of it.
        let swallowed = run(&[((3000, 3000, false), 4), ((3000, 900, false), 30)]);
        assert_eq!(kinds(&swallowed), [(Stable, 4), (Overloaded, 30)]);
        let passes = run(&[(FINE, 20), spike, (FINE, 20)]);
        assert_eq!(kinds(&passes), [(Stable, 20), (Overloaded, 10), (Stable, 20)]);
        let stays = run(&[(FINE, 20), spike, (DOWN, 20)]);
        assert_eq!(kinds(&stays), [(Stable, 20), (Overloaded, 10), (Metastable, 20)]);
    }

    #[test]
    fn a_load_that_only_grows_is_never_metastable() {
        // Just above what is served, for a long time, then far above.
        let grows = run(&[(FINE, 20), ((1040, 800, false), 30), ((2000, 1000, false), 20)]);
        assert_eq!(kinds(&grows), [(PhaseKind::Stable, 20), (PhaseKind::Overloaded, 50)]);
        // A load that passes window by window for chance, and not as a whole.
        let creeps = run(&[(FINE, 20), ((1100, 850, false), 40)]);
        assert_eq!(kinds(&creeps), [(PhaseKind::Stable, 20), (PhaseKind::Overloaded, 40)]);
        // What is offered and not answered was not borne, though chance lets the windows pass.
        let lags = run(&[((110, 80, false), 20), ((110, 60, false), 20)]);
        assert!(kinds(&lags).iter().all(|(kind, _)| *kind != PhaseKind::Metastable), "{lags:?}");
    }

    #[test]
    fn what_stays_down_between_two_triggers_is_metastable() {
        use PhaseKind::{Metastable, Overloaded, Stable};
        let spike = ((3000, 900, false), 5);
        for trigger in [spike, (FAULT, 5)] {
            let between = kinds(&run(&[(FINE, 20), trigger, (DOWN, 20), spike, (DOWN, 20)]));
            let down = (Metastable, 20);
            assert_eq!(between, [(Stable, 20), (Overloaded, 5), down, (Overloaded, 5), down]);
        }
    }

    #[test]
    fn chance_is_not_a_phase() {
        let noise =
            run(&[(FINE, 5), ((1030, 990, false), 1), ((20, 15, false), 5), (DOWN, 1), (FINE, 5)]);
        assert_eq!(kinds(&noise), [(PhaseKind::Stable, 17)]);
    }
}
