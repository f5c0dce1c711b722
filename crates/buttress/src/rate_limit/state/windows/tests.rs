use super::*;
use proptest::prelude::*;
use std::time::Duration;

const MS: u64 = 1_000_000;

fn fixed(limit: u32, ms: u64) -> Windows {
    Windows::new(&Config::new().fixed_window(limit, Duration::from_millis(ms)))
}

fn sliding(limit: u32, ms: u64) -> Windows {
    Windows::new(&Config::new().sliding_window(limit, Duration::from_millis(ms)))
}

#[test]
fn a_fixed_window_starts_over_at_its_border() {
    let windows = fixed(2, 100);
    windows.try_take(2, 90 * MS).unwrap();
    assert_eq!(windows.try_take(1, 99 * MS), Err(Short::For(MS)));
    windows.try_take(2, 100 * MS).unwrap();
    assert_eq!(windows.try_take(1, 100 * MS), Err(Short::For(100 * MS)));
}

#[test]
fn a_sliding_window_frees_each_call_after_exactly_a_period() {
    let windows = sliding(2, 100);
    windows.try_take(1, 10 * MS).unwrap();
    windows.try_take(1, 60 * MS).unwrap();
    assert_eq!(windows.try_take(1, 100 * MS), Err(Short::For(10 * MS)));
    assert_eq!(windows.try_take(2, 100 * MS), Err(Short::For(60 * MS)));
    windows.try_take(1, 110 * MS).unwrap();
    assert_eq!(windows.try_take(1, 159 * MS), Err(Short::For(MS)));
    assert_eq!(windows.try_take(3, 159 * MS), Err(Short::Never));
}

#[test]
fn a_refund_takes_back_its_own_and_only_while_it_counts() {
    // Regression: a refund removed the newest entry, whichever call had made it.
    let windows = sliding(2, 100);
    let first = windows.try_take(1, 0).unwrap();
    windows.try_take(1, 50 * MS).unwrap();
    windows.refund(1, first);
    assert_eq!(windows.available(60 * MS), 1);
    windows.try_take(1, 60 * MS).unwrap();
    assert_eq!(windows.available(100 * MS), 0, "two within 50 ms");
    windows.refund(1, first);
    assert_eq!(windows.available(100 * MS), 0, "there is nothing left of it");
}

#[test]
fn waiting_behind_others_counts_whole_windows() {
    let windows = fixed(2, 100);
    windows.try_take(2, 0).unwrap();
    assert_eq!(windows.wait_for(0, 1, 0), Some(100 * MS));
    assert_eq!(windows.wait_for(2, 1, 0), Some(200 * MS));
    assert_eq!(windows.wait_for(0, 3, 0), None);
}

proptest! {
    /// Compares with the definition: the number of calls admitted in the last period.
    #[test]
    fn a_sliding_window_is_its_definition(
        limit in 1u32..6,
        steps in prop::collection::vec((0u64..60, 1u32..4), 1..80),
    ) {
        let windows = sliding(limit, 100);
        let (mut now, mut admitted) = (0u64, Vec::<(u64, u32)>::new());
        for (pause, cost) in steps {
            now += pause * MS;
            let recent: u32 = admitted
                .iter()
                .filter(|(at, _)| at + 100 * MS > now)
                .map(|(_, cost)| cost)
                .sum();
            prop_assert_eq!(windows.available(now), limit - recent);
            let fits = recent + cost <= limit;
            prop_assert_eq!(windows.try_take(cost, now).is_ok(), fits);
            if fits {
                admitted.push((now, cost));
            }
        }
    }
}

#[test]
fn a_late_look_takes_as_of_the_moment_at_which_each_was_due() {
    for windows in [fixed(1, 10), sliding(1, 10)] {
        windows.try_take(1, 0).unwrap();
        windows.set_waiting(true);
        // Reading in between changes nothing.
        assert_eq!((windows.available(35 * MS), windows.full_in(35 * MS)), (1, 0));
        let taken = (0..5).filter(|_| windows.take_due(1, 0, 35 * MS).is_ok()).count();
        assert_eq!(taken, 3, "at 10, 20 and 30");
        assert_eq!(windows.take_due(1, 0, 35 * MS), Err(Short::For(5 * MS)));
        assert_eq!(windows.try_take(1, 100 * MS), Err(Short::Behind));
    }
}

#[test]
fn the_wait_behind_others_is_when_their_calls_are_free_again() {
    let windows = sliding(2, 100);
    windows.try_take(1, 10 * MS).unwrap();
    windows.try_take(1, 60 * MS).unwrap();
    let waits: Vec<_> = (0..4).map(|ahead| windows.wait_for(ahead, 1, 60 * MS)).collect();
    // At 110, 160, 210 and 260.
    assert_eq!(waits, [50, 100, 150, 200].map(|ms| Some(ms * MS)));
}

proptest! {
    /// The limit is raised and lowered at random: no period admits more than the limit in force,
    /// and an increase adds nothing immediately.
    #[test]
    fn a_change_of_the_limit_never_refills(
        steps in prop::collection::vec((0u64..60, 0u32..3, 1u32..6), 1..60),
        is_fixed in any::<bool>(),
    ) {
        let config = |limit| {
            let (config, period) = (Config::new(), Duration::from_millis(100));
            if is_fixed { config.fixed_window(limit, period) } else { config.sliding_window(limit, period) }
        };
        let windows = Windows::new(&config(3));
        let (mut now, mut limit, mut taken) = (0u64, 3u32, Vec::<(u64, u32)>::new());
        for (pause, what, number) in steps {
            now += pause * MS;
            let counts = |at: u64| if is_fixed { at / (100 * MS) == now / (100 * MS) } else { at + 100 * MS > now };
            let recent: u32 = taken.iter().filter(|(at, _)| counts(*at)).map(|(_, cost)| cost).sum();
            let before = windows.available(now);
            prop_assert!(before <= limit.saturating_sub(recent));
            if what == 0 {
                windows.apply(&config(number), now);
                limit = number;
                let after = windows.available(now);
                prop_assert!(after <= before && after == before.min(limit.saturating_sub(recent)));
            } else {
                let fits = number <= before;
                prop_assert_eq!(windows.try_take(number, now).is_ok(), fits);
                if fits {
                    taken.push((now, number));
                }
            }
        }
        prop_assert_eq!(windows.available(now + 200 * MS), limit);
    }
}
