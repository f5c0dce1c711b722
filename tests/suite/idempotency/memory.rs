//! The store in memory alone.

use std::time::Duration;

use buttress::idempotency::{
    ClaimId, Claimed, Fingerprint, Immediate, Key, KeyClaim, MemoryStore, Store,
};
use buttress::{Clock, Rng, StoreErrorKind, VirtualClock};

use crate::support::{ms, now};

const LEASE: Duration = ms(30_000);

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn id(number: u128) -> ClaimId {
    ClaimId::new(number)
}

fn claim(store: &MemoryStore<u32>, text: &str, claim: u128) -> Claimed<u32> {
    store.claim_now(KeyClaim::new(&key(text), id(claim)), LEASE).unwrap()
}

/// Claims and completes with its number.
fn complete(store: &MemoryStore<u32>, number: u32, lifetime: Duration) {
    let text = number.to_string();
    assert_eq!(claim(store, &text, number.into()), Claimed::Owned);
    store.complete_now(KeyClaim::new(&key(&text), id(number.into())), number, lifetime).unwrap();
}

#[test]
fn a_full_store_evicts_the_oldest_results_and_never_a_claim_in_flight() {
    let clock = VirtualClock::new();
    let store = MemoryStore::with_capacity(clock.clock(), 3).unwrap();
    assert_eq!(claim(&store, "in flight", 99), Claimed::Owned);
    (0..5).for_each(|number| complete(&store, number, ms(60_000)));
    let size = Store::<u32>::size(&store).unwrap();
    assert_eq!((size.in_flight, size.stored, size.evicted), (1, 3, 2));
    assert!(matches!(claim(&store, "in flight", 100), Claimed::InFlight { .. }));
    for number in 2..5 {
        assert_eq!(claim(&store, &number.to_string(), 100), Claimed::Done(number));
    }
    for number in 0..2u32 {
        assert_eq!(claim(&store, &number.to_string(), 100), Claimed::Owned, "{number}");
    }
    // It keeps a thousand claims in flight, whatever the capacity.
    (0..1000).for_each(|n| assert_eq!(claim(&store, &format!("f{n}"), 7), Claimed::Owned));
    assert_eq!(Store::<u32>::size(&store).unwrap().in_flight, 1003);
}

#[test]
fn oldest_is_by_completion_and_not_by_claim() {
    let store = MemoryStore::with_capacity(Clock::default(), 2).unwrap();
    for text in ["a", "b", "c"] {
        claim(&store, text, 1);
    }
    for text in ["c", "a", "b"] {
        store.complete_now(KeyClaim::new(&key(text), id(1)), 1, LEASE).unwrap();
    }
    assert_eq!(claim(&store, "c", 2), Claimed::Owned);
    assert_eq!(claim(&store, "a", 2), Claimed::Done(1));
}

#[test]
fn what_has_expired_is_absent_whether_swept_or_not_and_leaves_as_claims_come() {
    let clock = VirtualClock::new();
    let store = MemoryStore::new(clock.clock());
    (0..100).for_each(|number| complete(&store, number, ms(1000)));
    claim(&store, "lapsed", 5);
    clock.advance(LEASE);
    assert_eq!(store.outcome_now(KeyClaim::new(&key("5"), id(5))).unwrap(), None);
    assert_eq!(Store::<u32>::size(&store).unwrap().stored, 100);
    // Each claim removes at least one of them.
    for number in 0..100 {
        assert_eq!(claim(&store, &format!("new {number}"), 1), Claimed::Owned);
    }
    let size = Store::<u32>::size(&store).unwrap();
    assert_eq!((size.stored, size.in_flight), (0, 100), "the lapsed claim is gone too");
}

/// Results with a long lifetime must not delay the removal of results with a short one.
#[test]
fn lifetimes_that_differ_do_not_hold_each_other_up() {
    let clock = VirtualClock::new();
    let store = MemoryStore::new(clock.clock());
    complete(&store, 0, ms(1_000_000));
    (1..100).for_each(|number| complete(&store, number, ms(1000)));
    clock.advance(ms(1000));
    for number in 0..300 {
        claim(&store, &format!("new {number}"), 1);
        store.release_claim_now(KeyClaim::new(&key(&format!("new {number}")), id(1))).unwrap();
    }
    assert_eq!(Store::<u32>::size(&store).unwrap().stored, 1);
}

#[test]
fn sweeping_removes_so_many_at_most_and_says_how_many() {
    let clock = VirtualClock::new();
    let store = MemoryStore::new(clock.clock());
    (0..3000).for_each(|number| complete(&store, number, ms(1000)));
    (3000..3010).for_each(|number| complete(&store, number, ms(9000)));
    assert_eq!(now(Store::<u32>::sweep_expired(&store, 500)).unwrap(), 0);
    clock.advance(ms(1000));
    assert_eq!(now(Store::<u32>::sweep_expired(&store, 500)).unwrap(), 500);
    assert_eq!(now(Store::<u32>::sweep_expired(&store, 5000)).unwrap(), 2500);
    assert_eq!(now(Store::<u32>::sweep_expired(&store, 5000)).unwrap(), 0);
    assert_eq!(Store::<u32>::size(&store).unwrap().stored, 10);
}

#[test]
fn only_the_claim_that_holds_a_key_can_renew_complete_or_release_it() {
    let clock = VirtualClock::new();
    let store = MemoryStore::new(clock.clock());
    let key = key("k");
    let fenced = |answer: Result<(), buttress::StoreError>| {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Fenced);
        assert_eq!(error.to_string(), "store: fenced: the claim does not hold key `k`");
    };
    fenced(store.renew_claim_now(KeyClaim::new(&key, id(1)), LEASE));
    assert_eq!(claim(&store, "k", 1), Claimed::Owned);
    fenced(store.renew_claim_now(KeyClaim::new(&key, id(2)), LEASE));
    fenced(store.complete_now(KeyClaim::new(&key, id(2)), 2, LEASE));
    store.release_claim_now(KeyClaim::new(&key, id(2))).unwrap();
    assert_eq!(claim(&store, "k", 2), Claimed::InFlight { lease_left: LEASE });
    // The same claim again is a new lease.
    clock.advance(ms(10_000));
    assert_eq!(claim(&store, "k", 1), Claimed::Owned);
    assert_eq!(claim(&store, "k", 2), Claimed::InFlight { lease_left: LEASE });
    // Taken over: the old claim is void.
    clock.advance(LEASE);
    assert_eq!(claim(&store, "k", 2), Claimed::Owned);
    fenced(store.complete_now(KeyClaim::new(&key, id(1)), 1, LEASE));
    store.complete_now(KeyClaim::new(&key, id(2)), 2, LEASE).unwrap();
    // A repetition has no further effect.
    store.complete_now(KeyClaim::new(&key, id(2)), 3, LEASE).unwrap();
    fenced(store.renew_claim_now(KeyClaim::new(&key, id(2)), LEASE));
    store.release_claim_now(KeyClaim::new(&key, id(2))).unwrap();
    assert_eq!(store.outcome_now(KeyClaim::new(&key, id(2))).unwrap(), Some(2));
    assert_eq!(store.outcome_now(KeyClaim::new(&key, id(1))).unwrap(), None);
    clock.advance(LEASE);
    fenced(store.complete_now(KeyClaim::new(&key, id(2)), 2, LEASE));
}

/// A model with a list that it searches completely.
#[test]
fn a_random_walk_agrees_with_a_model() {
    let clock = VirtualClock::new();
    let capacity = 5;
    let store = MemoryStore::with_capacity(clock.clock(), capacity).unwrap();
    let rng = Rng::seeded(11);
    let mut model = Model { entries: Vec::new(), capacity };
    for step in 0..20_000u32 {
        let text = rng.between(0, 11).to_string();
        let claim = u128::from(rng.between(1, 4));
        let print = match rng.between(0, 2) {
            0 => None,
            n => Some(Fingerprint::new(n.into())),
        };
        let time = ms(rng.between(1, 400));
        let at = clock.elapsed();
        let (key, id) = (key(&text), id(claim));
        match rng.between(0, 5) {
            0 | 1 => {
                let claimed =
                    store.claim_now(KeyClaim::new(&key, id).fingerprint(print), time).unwrap();
                assert_eq!(claimed, model.claim(&text, claim, print, time, at), "step {step}");
            }
            2 => {
                // All have one lifetime, so that a full store evicts the result that expires first.
                let stored = store.complete_now(KeyClaim::new(&key, id), step, ms(300)).is_ok();
                if !stored {
                    model.forget_lapsed(&text, claim, at);
                }
                let expected = model.complete(&text, claim, step, ms(300), at);
                assert_eq!(stored, expected, "step {step}");
            }
            3 => {
                let renewed = store.renew_claim_now(KeyClaim::new(&key, id), time).is_ok();
                if !renewed {
                    model.forget_lapsed(&text, claim, at);
                }
                assert_eq!(renewed, model.renew(&text, claim, time, at), "step {step}");
            }
            4 => {
                store.release_claim_now(KeyClaim::new(&key, id)).unwrap();
                model.entries.retain(|e| !(e.key == text && e.claim == claim && e.value.is_none()));
            }
            _ => clock.advance(ms(rng.between(0, 60))),
        }
        let at = clock.elapsed();
        let outcome = store.outcome_now(KeyClaim::new(&key, id)).unwrap();
        assert_eq!(outcome, model.outcome(&text, claim, at), "step {step}");
    }
}

struct Model {
    /// Results in the order of their completion.
    entries: Vec<Modelled>,
    capacity: usize,
}

#[derive(Clone)]
struct Modelled {
    key: String,
    claim: u128,
    print: Option<Fingerprint>,
    until: Duration,
    value: Option<u32>,
}

impl Model {
    /// A claim whose lease has expired exists until the store sweeps it.
    fn forget_lapsed(&mut self, key: &str, claim: u128, at: Duration) {
        let lapsed = |e: &Modelled| e.value.is_none() && e.until <= at;
        self.entries.retain(|e| !(e.key == key && e.claim == claim && lapsed(e)));
    }

    fn claim(
        &mut self,
        key: &str,
        claim: u128,
        print: Option<Fingerprint>,
        lease: Duration,
        at: Duration,
    ) -> Claimed<u32> {
        if let Some(entry) = self.entries.iter_mut().find(|e| e.key == key && e.until > at) {
            if entry.claim == claim && entry.value.is_none() {
                entry.until = at + lease;
                entry.print = print;
                return Claimed::Owned;
            }
            if entry.print.is_some() && print.is_some() && entry.print != print {
                return Claimed::Mismatch;
            }
            return match entry.value {
                Some(value) => Claimed::Done(value),
                None => Claimed::InFlight { lease_left: entry.until - at },
            };
        }
        self.entries.retain(|entry| entry.key != key);
        let (key, until) = (key.to_owned(), at + lease);
        self.entries.push(Modelled { key, claim, print, until, value: None });
        Claimed::Owned
    }

    fn complete(
        &mut self,
        key: &str,
        claim: u128,
        value: u32,
        lifetime: Duration,
        at: Duration,
    ) -> bool {
        let Some(place) = self.entries.iter().position(|e| e.key == key && e.claim == claim) else {
            return false;
        };
        if self.entries[place].value.is_some() {
            return self.entries[place].until > at;
        }
        let mut entry = self.entries.remove(place);
        (entry.value, entry.until) = (Some(value), at + lifetime);
        self.entries.push(entry);
        if self.entries.iter().filter(|e| e.value.is_some()).count() > self.capacity {
            let oldest = self.entries.iter().position(|e| e.value.is_some()).unwrap();
            self.entries.remove(oldest);
        }
        true
    }

    fn renew(&mut self, key: &str, claim: u128, lease: Duration, at: Duration) -> bool {
        let held = |e: &&mut Modelled| e.key == key && e.claim == claim && e.value.is_none();
        let Some(entry) = self.entries.iter_mut().find(held) else { return false };
        entry.until = at + lease;
        true
    }

    fn outcome(&self, key: &str, claim: u128, at: Duration) -> Option<u32> {
        let done = |e: &&Modelled| e.key == key && e.claim == claim && e.until > at;
        self.entries.iter().find(done).and_then(|entry| entry.value)
    }
}
