//! Results that must not depend on the order of simultaneous events. Nearly all events are
//! simultaneous: even arrivals, constant work, and a seed that draws the order.

use std::time::Duration;

use buttress::idempotency::MemoryStore;
use buttress::retry::Backoff;
use buttress_sim::{Cause, Fault, Faults, Load, Scenario};

use crate::idempotency::{at_the_server, once, server};
use crate::outbox::{Taken, broker, one_ms};
use crate::saga::{Plan, sagas};
use crate::support::{ms, sec};
use crate::{idempotency, outbox, saga};

const SEEDS: std::ops::Range<u64> = 0..15;

/// Sends two requests every 10 ms, for two seconds.
fn ties(name: &str, seed: u64) -> Scenario {
    let times = (0..200).flat_map(|n| [ms(10 * n), ms(10 * n)]);
    Scenario::new(name, sec(10)).seed(seed).vary_ties(true).load(Load::trace(times).keys(7))
}

#[test]
fn a_key_runs_once_whoever_comes_first() {
    for seed in SEEDS {
        let (outcome, stats) = idempotency::run(&ties("keys", seed), |world| {
            // Work, waits and lifetimes all end at the times of requests.
            let config = idempotency::config(world).result_lifetime(ms(100)).lease(ms(30));
            let store = MemoryStore::new(world.clock());
            once(config, store, |request| request.id / 40, server(world, ms(50))?)
        });
        assert_eq!(outcome.ends().of(Cause::Ok), 400, "seed {seed}: {stats:?}");
        assert_eq!((at_the_server(&outcome), stats.started), (stats.started, stats.started));
        // Forty requests of a key arrive within 190 ms. An answer lasts for 100 ms after its 50 ms
        // of work.
        assert!((20..=40).contains(&stats.started), "seed {seed}: {stats:?}");
        assert_eq!((stats.failed, stats.fenced, stats.refused), (0, 0, 0), "seed {seed}");
    }
}

#[test]
fn messages_stay_in_order_whatever_ends_first() {
    for seed in SEEDS {
        let faults = Faults::new().at(ms(500), ms(400), "broker", Fault::Crash);
        let taken = Taken::default();
        let (_, stats, left) = outbox::run(&ties("messages", seed).faults(faults), true, |world| {
            let config = outbox::config(world).retry(u32::MAX, Backoff::fixed(ms(50))).batch(3);
            Ok((config.poll(ms(10)).idle_poll(ms(10)), broker(one_ms(world, 2)?, &taken)))
        });
        // The two messages of one instant are written in either order.
        let mut taken = taken.lock().unwrap();
        for numbers in taken.values_mut() {
            let by_instant: Vec<u64> = numbers.iter().map(|number| number / 2).collect();
            assert!(by_instant.is_sorted(), "seed {seed}: {numbers:?}");
            numbers.sort_unstable();
        }
        drop(taken);
        assert_eq!(
            (stats.relayed, stats.dead, left.pending),
            (400, 0, 0),
            "seed {seed}: {stats:?}"
        );
    }
}

#[test]
fn sagas_add_up_whatever_ends_first() {
    for seed in SEEDS {
        // The limit of a step ends together with the work of the second step, and undos with
        // actions.
        let plan = Plan { errors: 0.2, definite: false, timeout: Some(ms(20)) };
        let (outcome, stats) = saga::run(&ties("sagas", seed), |world| {
            let config = saga::config(world).deadline(ms(60)).lease(Duration::from_millis(90));
            sagas(world, plan, config)
        });
        // The third step takes longer than its time limit.
        assert_eq!((stats.started, stats.completed), (400, 0), "seed {seed}");
        assert_eq!((stats.compensated, stats.stuck, stats.active), (400, 0, 0), "seed {seed}");
        let undone: u64 = ["release", "refund", "recall"]
            .map(|undo| outcome.station(undo).unwrap().completed)
            .iter()
            .sum();
        assert_eq!(stats.compensations_executed, undone, "seed {seed}");
        // Each step that was begun is undone, because its effect is in doubt.
        assert_eq!(undone, stats.steps_executed + stats.steps_failed, "seed {seed}");
    }
}
