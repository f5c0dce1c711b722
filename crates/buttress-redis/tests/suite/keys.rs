//! Idempotency keys.

use std::time::Duration;

use buttress::VirtualClock;
use buttress::idempotency::{ClaimId, Claimed, Key, KeyClaim, Store as _};
use buttress_redis::Error;
use buttress_redis::idempotency::IdempotencyStore;
use buttress_sim::conformance::{Harness, idempotency};

use crate::server::{Scene, at, fresh};

const SECOND: Duration = Duration::from_secs(1);

struct Keys {
    scene: Scene,
    time: VirtualClock,
}

impl Keys {
    fn named(&self, name: &str) -> IdempotencyStore {
        self.scene.redis.idempotency(name).unwrap().clock(self.time.clock())
    }
}

impl Harness<IdempotencyStore> for Keys {
    async fn fresh(&self) -> IdempotencyStore {
        self.named(&fresh(&self.scene.name))
    }

    async fn reopen(&self, store: &IdempotencyStore) -> IdempotencyStore {
        store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.time.advance(by);
    }
}

#[tokio::test]
async fn patterns_6_5_the_store_passes_every_case() {
    let Some(scene) = Scene::of("the suite of idempotency stores", 1).await else { return };
    let keys = Keys { scene, time: VirtualClock::new() };
    idempotency::all(&keys).await;
    keys.scene.end().await;
}

#[tokio::test]
async fn without_a_clock_of_a_test_time_is_the_servers() {
    let Some(scene) = Scene::of("the time of the server", 1).await else { return };
    let store = scene.redis.idempotency(&scene.name).unwrap();
    let key = Key::new("k").unwrap();
    let [one, two] = [1, 2].map(|id| KeyClaim::new(&key, ClaimId::new(id)));
    assert_eq!(store.claim(one, 2 * SECOND).await.unwrap(), Claimed::Owned);
    let Claimed::InFlight { lease_left } = store.claim(two, SECOND).await.unwrap() else {
        panic!("in flight")
    };
    assert!(lease_left > Duration::ZERO && lease_left <= 2 * SECOND);
    crate::server::until("the lease ends", async || {
        store.claim(two, 60 * SECOND).await.unwrap() == Claimed::Owned
    })
    .await;
    assert!(store.renew_claim(one, SECOND).await.unwrap_err().is_fenced());
    // Redis removes by itself what no sweep removes.
    let keys: Vec<String> = scene.ask(&["KEYS", &format!("*{}*of*", scene.name)]).await;
    let left: u64 = scene.ask(&["PTTL", &keys[0]]).await;
    assert!(left > 3_600_000 && left <= 3_660_000, "{left}");
    scene.end().await;
}

#[tokio::test]
async fn a_store_that_is_away_and_results_that_are_too_large_are_errors() {
    let redis = at("redis://127.0.0.1:1");
    assert!(matches!(redis.idempotency("a{"), Err(Error::Name { field: "name", .. })));
    let store = redis.idempotency("a").unwrap();
    let key = Key::new("k").unwrap();
    let claim = KeyClaim::new(&key, ClaimId::new(1));
    let error = store.claim(claim, SECOND).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let large = vec![0; IdempotencyStore::LARGEST_RESULT + 1];
    let error = store.complete(claim, large, SECOND).await.unwrap_err();
    assert!(!error.may_pass() && error.to_string().contains("16777216"), "{error}");
}
