//! Outages of the broker, the network or a relay.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::InvalidConfig;
use buttress::retry::Backoff;
use buttress_durable::outbox::{HeadOfKey, Inbox, Message, Receipt, Relay};
use buttress_sim::{Failure, Fault, Faults, Link, Load, Rate, Scenario, ServerError, World};
use tower::{Layer, ServiceExt};

use super::{Taken, Writer, assert_all_in_order, broker, config, number, one_ms, run};
use crate::support::{ms, sec};

/// The broker is down.
pub(super) fn outage(from: Duration, lasting: Duration) -> Faults {
    Faults::new().at(from, lasting, "broker", Fault::Crash)
}

/// Sends 100 per second over 20 keys, for at most `writing`.
fn load(writing: Duration) -> Load {
    Load::poisson(Rate::steps([(Duration::ZERO, 100.0), (writing, 0.0)])).keys(20)
}

#[test]
fn an_outage_grows_a_backlog_that_drains_in_order() {
    let (from, lasting) = (sec(10), sec(10));
    let scenario = Scenario::new("outage", sec(40))
        .window(sec(1))
        .load(load(sec(35)))
        .faults(outage(from, lasting));
    let taken = Taken::default();
    let (outcome, stats, left) = run(&scenario, true, |world| {
        let config = config(world).retry(u32::MAX, Backoff::fixed(ms(200)));
        Ok((config, broker(one_ms(world, u32::MAX)?, &taken)))
    });
    assert_all_in_order(&taken, outcome.requests());
    assert_eq!((stats.relayed, stats.written), (outcome.requests(), outcome.requests()));
    assert_eq!((stats.dead, left.pending, left.held_keys), (0, 0, 0));
    // The backlog at the end of the outage has all messages since its beginning. Two seconds later
    // it is empty.
    let backlog = &outcome.gauge("backlog").unwrap().values;
    let windows = outcome.windows();
    let written: u64 = windows[10..20].iter().map(|window| window.offered).sum();
    assert!(backlog[..10].iter().all(|pending| *pending <= 2.0), "{backlog:?}");
    assert!((backlog[19] - written as f64).abs() <= 2.0, "{backlog:?} of {written}");
    assert!(backlog[10..20].is_sorted());
    assert!(backlog[21..].iter().all(|pending| *pending <= 2.0), "{backlog:?}");
    // Each key is attempted once in 200 ms, regardless of the messages behind: 20 keys, 10 s.
    assert!((950..=1_020).contains(&stats.failed), "{}", stats.failed);
    // The oldest message was written at the beginning, and is delivered within a backoff of the
    // end.
    let longest = (lasting - sec(1)..=lasting + ms(201)).contains(&stats.lag_max);
    assert!(longest, "{:?}", stats.lag_max);
}

#[test]
fn a_lost_answer_is_a_second_delivery_and_an_inbox_makes_it_one() {
    let scenario = Scenario::new("lossy", sec(120)).load(load(sec(30)));
    let (firsts, repeated) = (Taken::default(), Arc::new(Mutex::new(0u64)));
    let (outcome, stats, left) = run(&scenario, true, |world| {
        let config = config(world).publish_timeout(ms(50)).retry(u32::MAX, Backoff::fixed(ms(10)));
        let inbox = buttress_durable::outbox::MemoryStore::new(world.clock());
        let (log, again) = (firsts.clone(), repeated.clone());
        let consumer = tower::service_fn(move |message: Message| {
            let (inbox, log, again) = (inbox.clone(), log.clone(), again.clone());
            async move {
                let mut tx = inbox.begin();
                let failed = |_| Failure::from(ServerError::Failed);
                let receipt =
                    inbox.receive(&mut tx, "consumer", message.id).await.map_err(failed)?;
                tx.commit();
                match receipt {
                    Receipt::First => {
                        let mut log = log.lock().unwrap();
                        log.entry(message.key.clone()).or_default().push(number(&message));
                    }
                    Receipt::Repeated => *again.lock().unwrap() += 1,
                }
                Ok::<(), Failure>(())
            }
        });
        let link = world.link(Link::new("wire").delay(ms(2)).loss(0.2))?;
        Ok((config, link.layer(consumer)))
    });
    assert_all_in_order(&firsts, outcome.requests());
    assert_eq!((stats.relayed, stats.dead, left.pending), (outcome.requests(), 0, 0));
    // Each answer is lost with probability 0.2, so a delivery that arrives is repeated 0.25 times
    // on average.
    let (repeated, once) = (*repeated.lock().unwrap() as f64, outcome.requests() as f64);
    let error = (0.2f64 / (0.8 * 0.8) / once).sqrt();
    assert!((repeated / once - 0.25).abs() <= 4.0 * error, "{repeated} of {once}");
    // Only rejected messages were attempted again.
    assert_eq!(stats.failed, stats.redelivered);
}

#[test]
fn a_message_nobody_can_take_holds_up_its_key_for_its_attempts_or_for_an_operator() {
    let run = |policy: HeadOfKey| {
        let scenario = Scenario::new("poison", sec(60)).load(load(sec(30)));
        let taken = Taken::default();
        let (outcome, stats, left) = run(&scenario, true, |world| {
            let broker = broker(one_ms(world, u32::MAX)?, &taken);
            let picky = tower::service_fn(move |message: Message| {
                let broker = broker.clone();
                async move {
                    if number(&message) % 500 == 7 {
                        return Err(Failure::from(ServerError::Failed));
                    }
                    broker.oneshot(message).await
                }
            });
            let config = config(world).retry(3, Backoff::fixed(ms(100))).head_of_key(policy);
            Ok((config, picky))
        });
        let poison = outcome.requests().div_ceil(500) as usize;
        let taken = taken.lock().unwrap();
        assert!(taken.values().all(|numbers| numbers.is_sorted()));
        assert_eq!(stats.relayed + stats.dead + left.pending, outcome.requests());
        (poison as u64, stats, left)
    };
    let (poison, stats, left) = run(HeadOfKey::Continue);
    assert_eq!((stats.dead, stats.failed, left.pending), (poison, 3 * poison, 0));
    let (poison, stats, left) = run(HeadOfKey::Block);
    // Messages behind a dead letter wait. A later message of the same key cannot die before its
    // first attempt.
    assert!(stats.dead <= poison && left.held_keys == stats.dead && left.pending > 0, "{left:?}");
    assert!(stats.failed == 3 * stats.dead && stats.relayed > 2_000, "{stats:?}");
}

#[test]
fn another_relay_takes_over_from_one_that_vanished_when_its_lease_ends() {
    let lease = sec(5);
    let scenario = Scenario::new("crash", sec(60)).window(ms(500)).load(load(sec(50)));
    let taken = Taken::default();
    let mut seen = None;
    let build = |world: &World| -> Result<_, InvalidConfig> {
        let writer = Writer::new(world, false);
        let station = one_ms(world, u32::MAX)?;
        let relay = |name: &str| {
            let config = config(world).rng(world.rng(name)).lease(lease);
            Relay::new(&writer.outbox, broker(station.clone(), &taken), config)
        };
        seen = Some((relay("one")?.spawn(), writer.outbox.store().clone()));
        // The second relay stops after 20 s, in the middle of its work.
        let (two, end) = (relay("two")?.run(), world.clock().sleep(ms(20_000)));
        world.spawner().spawn(async move {
            let (mut two, mut end) = (std::pin::pin!(two), std::pin::pin!(end));
            std::future::poll_fn(|cx| match two.as_mut().poll(cx) {
                std::task::Poll::Pending => end.as_mut().poll(cx),
                ended => ended,
            })
            .await;
        });
        Ok(writer.service())
    };
    let outcome = scenario.run(build).unwrap();
    let (relay, store) = seen.unwrap();
    let (stats, left) = (relay.stats(), super::backlog(&store));
    assert_all_in_order(&taken, outcome.requests());
    assert_eq!((stats.relayed, left.pending), (outcome.requests(), 0));
    // It had renewed its lease within the last second, ten polls, and the other relay polls as
    // often. Before that a message has waited for a poll.
    let longest = lease - sec(1)..=lease + sec(1) + ms(150);
    assert!(longest.contains(&stats.lag_max), "{:?}", stats.lag_max);
    // Meanwhile the messages of its half of the keys wait, and the messages of the other half do
    // not. In the first seconds one relay hands half of the keys to the other.
    let backlog = &outcome.gauge("backlog").unwrap().values;
    assert!(backlog[8..39].iter().all(|pending| *pending < 30.0), "{backlog:?}");
    let most = backlog.iter().copied().fold(0.0, f64::max);
    assert!((100.0..400.0).contains(&most), "{most}");
    assert!(backlog[55..].iter().all(|pending| *pending < 30.0), "{backlog:?}");
}
