use std::sync::Arc;

use super::super::cache::{Cache, TokenDigest, digest};
use super::super::claims::Validity;
use super::super::keys::{Found, KeySet};
use super::*;

fn set(keys: &[(&str, &str)]) -> Arc<KeySet> {
    let keys = keys.iter().map(|(kid, public)| rsa_jwk(kid, public));
    Arc::new(KeySet::parse(&document(keys)).unwrap())
}

fn token(number: u32) -> TokenDigest {
    digest(&number.to_string())
}

fn put(cache: &mut Cache, number: u32, kid: &str, keys: &Arc<KeySet>) {
    let Found::Key(key) = keys.find(Some(kid), Algorithm::RS256) else { panic!("no key {kid}") };
    let subject = Subject::new(&number.to_string()).unwrap();
    let validity = Validity { from: None, until: Duration::from_secs(1_000) };
    cache.put(token(number), (subject, validity), key, keys);
}

fn get(cache: &mut Cache, number: u32, keys: &Arc<KeySet>) -> Option<String> {
    let subject = cache.get(&token(number), keys, Duration::from_secs(500))?;
    Some(subject.as_str().to_owned())
}

#[test]
fn edge_2_35_a_key_that_leaves_drops_its_entries() {
    let both = set(&[("a", RSA_A_PUBLIC), ("b", RSA_B_PUBLIC)]);
    let mut cache = Cache::default();
    put(&mut cache, 1, "a", &both);
    put(&mut cache, 2, "b", &both);
    assert_eq!(get(&mut cache, 1, &both).as_deref(), Some("1"));
    // The same keys, fetched again: other objects, and other positions.
    let again = set(&[("b", RSA_B_PUBLIC), ("a", RSA_A_PUBLIC)]);
    assert_eq!(get(&mut cache, 1, &again).as_deref(), Some("1"));
    assert_eq!(get(&mut cache, 2, &again).as_deref(), Some("2"));
    let left = set(&[("b", RSA_B_PUBLIC)]);
    assert_eq!(get(&mut cache, 1, &left), None);
    assert_eq!(cache.len(), 1);
    // It does not come back with its key.
    assert_eq!(get(&mut cache, 1, &both), None);
    assert_eq!(get(&mut cache, 2, &both).as_deref(), Some("2"));
    // Another key under an old name is another key.
    assert_eq!(get(&mut cache, 2, &set(&[("b", RSA_A_PUBLIC)])), None);
}

#[test]
fn edge_2_35_the_cache_has_at_most_10_000_entries_and_keeps_those_in_use() {
    let keys = set(&[("a", RSA_A_PUBLIC)]);
    let mut cache = Cache::default();
    put(&mut cache, 0, "a", &keys);
    for number in 1..50_000 {
        put(&mut cache, number, "a", &keys);
        assert!(cache.len() <= 10_000);
        if number % 1_000 == 0 {
            assert_eq!(get(&mut cache, 0, &keys).as_deref(), Some("0"), "{number}");
        }
    }
    assert!(cache.len() > 5_000);
    assert_eq!(get(&mut cache, 1, &keys), None);
    assert_eq!(get(&mut cache, 49_999, &keys).as_deref(), Some("49999"));
    // The same token again and again is one entry.
    let mut cache = Cache::with_capacity(4);
    for _ in 0..10 {
        put(&mut cache, 1, "a", &keys);
        put(&mut cache, 2, "a", &keys);
    }
    assert!(cache.len() <= 4);
    assert_eq!(get(&mut cache, 1, &keys).as_deref(), Some("1"));
}

#[test]
fn edge_2_35_a_hit_checks_the_dates_in_both_halves() {
    let keys = set(&[("a", RSA_A_PUBLIC)]);
    let seconds = Duration::from_secs;
    let Found::Key(key) = keys.find(Some("a"), Algorithm::RS256) else { panic!("no key") };
    for fills in [0, 2] {
        let mut cache = Cache::with_capacity(4);
        let validity = Validity { from: Some(seconds(500)), until: seconds(1_000) };
        cache.put(token(0), (Subject::new("a").unwrap(), validity), key, &keys);
        for number in 1..=fills {
            put(&mut cache, number, "a", &keys);
        }
        assert!(cache.get(&token(0), &keys, seconds(440)).is_some());
        assert!(cache.get(&token(0), &keys, seconds(1_059)).is_some());
        for now in [439, 1_060, 1_061] {
            let mut cache = Cache::with_capacity(4);
            cache.put(token(0), (Subject::new("a").unwrap(), validity), key, &keys);
            for number in 1..=fills {
                put(&mut cache, number, "a", &keys);
            }
            assert!(cache.get(&token(0), &keys, seconds(now)).is_none(), "{fills} {now}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_35_other_rules_never_share_verified_tokens() {
    let valid = with(claims(&Clock::default()), "scope", json!("read"));
    let token = hs256(&valid);
    let jwt = of_secret();
    assert_eq!(seen(&jwt, &token).await, Seen::customer());
    assert_eq!(jwt.cache.lock().unwrap().len(), 1);
    let other = jwt.clone().issuer("https://other.example");
    assert_eq!(other.cache.lock().unwrap().len(), 0);
    assert!(matches!(
        seen(&jwt.clone().require_scope("write"), &token).await,
        Seen::Refused(403, _)
    ));
    assert!(matches!(
        seen(&jwt.clone().require("role", "admin"), &token).await,
        Seen::Refused(403, _)
    ));
    let bare = Jwt::hs256(SECRET).unwrap();
    let elsewhere = bare.clone().issuer("https://id.example").audience("elsewhere");
    let why = "the token is for another audience";
    assert_eq!(seen(&elsewhere, &token).await, Seen::refused(why));
    let elsewhere = bare.issuer("https://evil.example").audience("shop");
    assert_eq!(seen(&elsewhere, &token).await, Seen::refused("the issuer is not accepted"));
    // A clone with the same rules shares them, and another key never does.
    assert_eq!(jwt.clone().cache.lock().unwrap().len(), 1);
    let other = ours(Jwt::hs256(b"another secret of 32 bytes, here").unwrap());
    assert_eq!(seen(&other, &token).await, Seen::refused("the signature is invalid"));
}

#[tokio::test(start_paused = true)]
async fn edge_2_35_failures_are_not_cached() {
    let (jwt, valid) = (of_secret(), claims(&Clock::default()));
    for number in 0..100 {
        seen(&jwt, &hs256(&with(valid.clone(), "exp", json!(number)))).await;
        seen(&jwt, &hs256(&with(valid.clone(), "aud", json!(number.to_string())))).await;
        seen(&jwt, &format!("{number}.a.b")).await;
    }
    assert_eq!(jwt.cache.lock().unwrap().len(), 0);
    // A token that was not valid yet is accepted when it is.
    let token = hs256(&with(valid.clone(), "nbf", json!(Clock::default().unix().as_secs() + 100)));
    assert!(matches!(seen(&jwt, &token).await, Seen::Refused(401, _)));
    Clock::default().sleep(Duration::from_secs(41)).await;
    assert_eq!(seen(&jwt, &token).await, Seen::customer());
}
