use std::time::Duration;

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
    assert_eq!(kinds(&comes_back), [(Stable, 20), (Overloaded, 3), (Recovering, 4), (Stable, 30)]);
    assert_eq!(after(&comes_back), [Some(sec(4))]);
    let at_once = run(&[(FINE, 20), (FAULT, 3), (FINE, 30)]);
    assert_eq!(after(&at_once), [Some(Duration::ZERO)]);
}

#[test]
fn a_load_that_was_never_borne_is_plain_overload() {
    use PhaseKind::{Metastable, Overloaded, Stable};
    let spike = ((3000, 900, false), 10);
    assert_eq!(kinds(&run(&[spike])), [(Overloaded, 10)]);
    // A queue absorbs the beginning.
    let swallowed = run(&[((3000, 3000, false), 4), ((3000, 900, false), 30)]);
    assert_eq!(kinds(&swallowed), [(Stable, 4), (Overloaded, 30)]);
    let passes = run(&[(FINE, 20), spike, (FINE, 20)]);
    assert_eq!(kinds(&passes), [(Stable, 20), (Overloaded, 10), (Stable, 20)]);
    let stays = run(&[(FINE, 20), spike, (DOWN, 20)]);
    assert_eq!(kinds(&stays), [(Stable, 20), (Overloaded, 10), (Metastable, 20)]);
}

#[test]
fn a_load_that_only_grows_is_never_metastable() {
    // Slightly above the served load for a long time, then far above.
    let grows = run(&[(FINE, 20), ((1040, 800, false), 30), ((2000, 1000, false), 20)]);
    assert_eq!(kinds(&grows), [(PhaseKind::Stable, 20), (PhaseKind::Overloaded, 50)]);
    // A load that looks like chance in each window, but not as a whole.
    let creeps = run(&[(FINE, 20), ((1100, 850, false), 40)]);
    assert_eq!(kinds(&creeps), [(PhaseKind::Stable, 20), (PhaseKind::Overloaded, 40)]);
    // The unanswered part of the load was not carried, although chance lets the windows pass.
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
