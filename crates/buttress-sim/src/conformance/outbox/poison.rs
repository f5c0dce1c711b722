//! A message that crashes the relay that publishes it.

use std::collections::BTreeMap;

use buttress_durable::outbox::{Store, Verdict, Write};

use super::super::{Transactions, cases, expect};
use super::{LEASE, ONE, TWO, dead, fetch, lease, message, numbers, settle, settled, write};

/// The number of starts after which a message is dead.
const MOST: u32 = 3;
const POISON: u32 = 50;

pub(super) async fn all<S: Store + Write<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    cases!(harness: a_poison_message_among_99_innocents);
}

/// Runs relays as a store sees them. Each relay publishes suspect messages alone and records their
/// start first. Then it publishes the other messages together, and crashes at the poison. No other
/// message is delayed or lost.
async fn a_poison_message_among_99_innocents<S: Store + Write<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let messages: Vec<_> = (1..=100).map(|number| message(number, number)).collect();
    write(harness, &store, &messages).await;
    let (mut starts, mut deaths) = (BTreeMap::new(), 0);
    'lives: for life in 0..10_u64 {
        let leases = lease(&store, if life % 2 == 0 { ONE } else { TWO }).await;
        for suspect in leases.iter().filter(|lease| lease.suspect_to > 0) {
            loop {
                let mut found = fetch(&store, &[*suspect], 200).await.messages;
                found.retain(|message| message.sequence <= suspect.suspect_to);
                let Some(first) = found.first() else { break };
                let started = expect(store.record_start(*suspect, first.id, life).await, "start");
                let number = numbers(&found)[0];
                if started > MOST {
                    settle(&store, vec![settled(first, &leases, dead(false))]).await;
                    continue;
                }
                assert_eq!(
                    starts.insert(number, started),
                    started.checked_sub(1).filter(|n| *n > 0)
                );
                if number == POISON {
                    deaths += 1;
                    harness.advance(LEASE).await;
                    continue 'lives;
                }
                settle(&store, vec![settled(first, &leases, Verdict::Delivered)]).await;
            }
            expect(store.clear_suspects(*suspect).await, "clear");
        }
        let rest = fetch(&store, &leases, 200).await.messages;
        if rest.is_empty() {
            break;
        }
        // All messages concurrently, with the poison among them: no start is recorded.
        assert!(numbers(&rest).contains(&POISON), "only a relay that publishes it dies");
        deaths += 1;
        harness.advance(LEASE).await;
    }
    assert_eq!(deaths, 1 + MOST, "once with all, then alone");
    assert_eq!(starts.remove(&POISON), Some(MOST));
    assert_eq!(starts.len(), 99);
    assert!(starts.values().all(|starts| *starts == 1), "{starts:?}");
    let letters = expect(store.dead_letters(0, 100).await, "list");
    assert_eq!(
        letters.iter().map(|letter| letter.message.id).collect::<Vec<_>>(),
        [messages[POISON as usize - 1].id]
    );
    assert_eq!(expect(store.backlog().await, "count").pending, 0);
}
