use std::sync::Arc;
use std::time::Instant;

use super::super::keys::{Found, KeySet};
use super::super::state::{Decision, State, Step};
use super::*;

/// A decision as a text: the step, and `+fetch`.
fn said(decision: &Decision) -> String {
    let step = match &decision.step {
        Step::Use(keys) => format!("use {}", keys.len()),
        Step::Wait => String::from("wait"),
        Step::Unavailable(wait) => format!("unavailable {}", wait.as_secs_f64()),
        Step::Unknown => String::from("unknown"),
    };
    step + if decision.fetch { " +fetch" } else { "" }
}

/// A state and its time in seconds.
struct Course {
    state: State,
    start: Instant,
}

impl Course {
    fn new() -> Self {
        Self { state: State::default(), start: Clock::default().now() }
    }

    /// Keys that were fetched at 0, and whose fetch ended at 1.
    fn with_keys() -> Self {
        let mut course = Self::new();
        assert_eq!(course.ask(0.0), "wait +fetch");
        course.succeeds(1.0, 1);
        course
    }

    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    fn ask(&mut self, seconds: f64) -> String {
        said(&self.state.ask(self.at(seconds), false))
    }

    fn ask_again(&mut self, seconds: f64) -> String {
        said(&self.state.ask(self.at(seconds), true))
    }

    fn unknown_key(&mut self, seconds: f64) -> String {
        said(&self.state.unknown_key(self.at(seconds), false))
    }

    fn unknown_key_again(&mut self, seconds: f64) -> String {
        said(&self.state.unknown_key(self.at(seconds), true))
    }

    /// A fetch ends with this number of keys.
    fn succeeds(&mut self, seconds: f64, keys: usize) {
        let keys = (0..keys).map(|key| rsa_jwk(&key.to_string(), RSA_A_PUBLIC));
        let set = KeySet::parse(&document(keys)).unwrap();
        self.state.ended(self.at(seconds), Some(set));
    }

    fn fails(&mut self, seconds: f64) {
        self.state.ended(self.at(seconds), None);
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_33_the_first_fetch_is_awaited_by_all_and_its_failure_is_503() {
    let mut course = Course::new();
    assert_eq!(course.ask(0.0), "wait +fetch");
    assert_eq!(course.ask(0.5), "wait");
    course.fails(1.0);
    // One that has waited does not wait again, and the next fetch begins 10 seconds after the first.
    assert_eq!(course.ask_again(1.0), "unavailable 9");
    assert_eq!(course.ask(9.5), "unavailable 0.5");
    assert_eq!(course.ask(10.0), "wait +fetch");
    assert_eq!(course.ask_again(10.0), "unavailable 10");
    course.succeeds(11.0, 2);
    assert_eq!(course.ask_again(11.0), "use 2");
}

#[tokio::test(start_paused = true)]
async fn edge_2_33_an_unknown_key_begins_a_fetch_every_10_seconds_at_most() {
    let mut course = Course::with_keys();
    assert_eq!(course.unknown_key(9.9), "unknown");
    assert_eq!(course.unknown_key(10.0), "wait +fetch");
    for millis in 0..2_000 {
        assert_eq!(course.unknown_key(10.0 + f64::from(millis) / 1000.0), "wait");
    }
    // Requests with known keys do not wait.
    assert_eq!(course.ask(12.0), "use 1");
    course.succeeds(12.0, 1);
    assert_eq!(course.unknown_key_again(12.0), "unknown");
    let mut fetches = 0;
    for second in 12..1012 {
        let said = course.unknown_key(f64::from(second));
        if said.ends_with("+fetch") {
            fetches += 1;
            course.succeeds(f64::from(second), 1);
        } else {
            assert_eq!(said, "unknown");
        }
    }
    assert_eq!(fetches, 100);
    // The key server is unavailable: the key may exist, so the answer is 503 and not 401.
    assert_eq!(course.unknown_key(1_100.0), "wait +fetch");
    course.fails(1_101.0);
    assert_eq!(course.unknown_key_again(1_101.0), "unavailable 9");
    assert_eq!(course.unknown_key(1_105.0), "unavailable 5");
    assert_eq!(course.ask(1_105.0), "use 1");
}

#[tokio::test(start_paused = true)]
async fn edge_2_33_keys_are_fetched_again_after_5_minutes_in_the_background() {
    let mut course = Course::with_keys();
    assert_eq!(course.ask(299.9), "use 1");
    assert_eq!(course.ask(300.0), "use 1 +fetch");
    assert_eq!(course.ask(301.0), "use 1");
    course.succeeds(302.0, 2);
    // The age counts from the beginning of the fetch.
    assert_eq!(course.ask(599.9), "use 2");
    assert_eq!(course.ask(600.0), "use 2 +fetch");
}

#[tokio::test(start_paused = true)]
async fn edge_2_33_stale_keys_serve_24_hours_then_503() {
    let mut course = Course::with_keys();
    let day = 24.0 * 3600.0;
    let mut now = 300.0;
    let mut fetches = 0;
    while now < day {
        let said = course.ask(now);
        assert!(said == "use 1" || said == "use 1 +fetch", "{now}: {said}");
        if said.ends_with("+fetch") {
            fetches += 1;
            course.fails(now + 5.0);
        }
        now += 7.0;
    }
    assert_eq!(fetches, 6150);
    assert_eq!(course.ask(day - 0.001), "use 1 +fetch");
    // In flight: nothing is left to serve in the meantime.
    assert_eq!(course.ask(day), "wait");
    course.fails(day + 4.0);
    assert_eq!(course.ask_again(day + 4.0), "unavailable 5.999");
    // It comes back.
    assert_eq!(course.ask(day + 10.0), "wait +fetch");
    course.succeeds(day + 11.0, 1);
    assert_eq!(course.ask(day + 11.0), "use 1");
}

#[tokio::test(start_paused = true)]
async fn edge_2_33_after_a_quiet_night_the_first_request_waits_for_new_keys() {
    let mut course = Course::with_keys();
    let morning = 8.0 * 3600.0;
    assert_eq!(course.ask(morning), "wait +fetch");
    // A key server that does not answer does not stop it.
    course.fails(morning + 5.0);
    assert_eq!(course.ask_again(morning + 5.0), "use 1");
    assert_eq!(course.ask(morning + 9.0), "use 1");
    assert_eq!(course.ask(morning + 10.0), "use 1 +fetch");
}

#[tokio::test(start_paused = true)]
async fn edge_2_33_an_empty_document_revokes_all_keys() {
    let mut course = Course::with_keys();
    assert_eq!(course.ask(300.0), "use 1 +fetch");
    course.succeeds(301.0, 0);
    assert_eq!(course.ask(302.0), "use 0");
}

#[tokio::test(start_paused = true)]
async fn a_time_before_the_last_one_does_not_panic() {
    let mut course = Course::with_keys();
    course.start -= Duration::from_secs(5);
    assert_eq!(course.ask(0.0), "use 1");
    assert_eq!(course.unknown_key(0.0), "unknown");
}

/// Which tokens a document's keys serve: a text per key of the set.
fn read(keys: impl IntoIterator<Item = Value>) -> usize {
    KeySet::parse(&document(keys)).unwrap().len()
}

/// The last bytes of a public key are its point.
fn point(pem: &str, length: usize) -> Vec<u8> {
    let der = der(pem);
    der[der.len() - length..].to_vec()
}

fn ec_jwk(curve: &str, public: &str, length: usize) -> Value {
    let point = point(public, 2 * length);
    let (x, y) = (base64(&point[..length]), base64(&point[length..]));
    json!({ "kty": "EC", "use": "sig", "kid": curve, "crv": curve, "x": x, "y": y })
}

fn ed_jwk() -> Value {
    let x = base64(point(include_str!("keys/ed25519.pub.pem"), 32));
    json!({ "kty": "OKP", "use": "sig", "kid": "Ed25519", "crv": "Ed25519", "x": x })
}

#[tokio::test(start_paused = true)]
async fn edge_2_37_every_supported_kind_of_key_verifies_its_tokens_alone() {
    let p256 = ec_jwk("P-256", include_str!("keys/p256.pub.pem"), 32);
    let p384 = ec_jwk("P-384", include_str!("keys/p384.pub.pem"), 48);
    let rsa_512 = with(rsa_jwk("RS512", RSA_B_PUBLIC), "alg", json!("RS512"));
    let keys = document([rsa_jwk("a", RSA_A_PUBLIC), rsa_512, p256, p384, ed_jwk()]);
    let set = Arc::new(KeySet::parse(&keys).unwrap());
    assert_eq!(set.len(), 5);
    let signers = [
        ("a", Algorithm::RS256, rsa_key(RSA_A)),
        ("RS512", Algorithm::RS512, rsa_key(RSA_B)),
        ("P-256", Algorithm::ES256, EncodingKey::from_ec_der(&der(include_str!("keys/p256.pem")))),
        ("P-384", Algorithm::ES384, EncodingKey::from_ec_der(&der(include_str!("keys/p384.pem")))),
        (
            "Ed25519",
            Algorithm::EdDSA,
            EncodingKey::from_ed_der(&der(include_str!("keys/ed25519.pem"))),
        ),
    ];
    for (kid, algorithm, key) in &signers {
        let signer = (DEFAULT_PROVIDER.signer_factory)(algorithm, key).unwrap();
        let signature = signer.sign(b"message");
        for (other, expected, _) in &signers {
            let found = set.find(Some(other), *algorithm);
            if other != kid {
                assert!(matches!(found, Found::WrongAlgorithm), "{other} {algorithm:?}");
                continue;
            }
            assert_eq!(expected, algorithm);
            let Found::Key(key) = found else { panic!("{found:?}") };
            assert!(key.verifies(b"message", &signature), "{kid}");
            assert!(!key.verifies(b"messagf", &signature), "{kid}");
            assert!(!key.verifies(b"message", &Vec::new()), "{kid}");
        }
    }
    // A token without `kid` has the only key of its algorithm.
    assert!(matches!(set.find(None, Algorithm::ES256), Found::Key(_)));
    assert!(matches!(set.find(Some("b"), Algorithm::ES256), Found::Unknown));
    assert!(matches!(set.find(None, Algorithm::HS256), Found::WrongAlgorithm));
    let two = [rsa_jwk("a", RSA_A_PUBLIC), rsa_jwk("b", RSA_B_PUBLIC)];
    let two = KeySet::parse(&document(two)).unwrap();
    assert!(matches!(two.find(None, Algorithm::RS256), Found::Ambiguous));
    // A key without a name serves the tokens that no key is named for.
    let unnamed = [with(rsa_jwk("", RSA_A_PUBLIC), "kid", json!(null)), rsa_jwk("b", RSA_B_PUBLIC)];
    let unnamed = KeySet::parse(&document(unnamed)).unwrap();
    let (Found::Key(a), Found::Key(b)) =
        (unnamed.find(Some("a"), Algorithm::RS256), unnamed.find(Some("b"), Algorithm::RS256))
    else {
        panic!("not found");
    };
    assert_ne!(a.print(), b.print());
}

#[test]
fn edge_2_37_only_keys_that_verify_signatures_are_read() {
    let rsa = rsa_jwk("a", RSA_A_PUBLIC);
    assert_eq!(read([rsa.clone()]), 1);
    let p256 = ec_jwk("P-256", include_str!("keys/p256.pub.pem"), 32);
    let (zeros, secret) = (base64([0; 32]), base64(SECRET));
    let left_out = [
        with(rsa.clone(), "use", json!("enc")),
        with(rsa.clone(), "use", json!("SIG")),
        with(rsa.clone(), "use", json!(null)),
        with(rsa.clone(), "alg", json!("HS256")),
        with(rsa.clone(), "alg", json!("none")),
        with(rsa.clone(), "alg", json!("ES256")),
        with(rsa.clone(), "alg", json!("RSA-OAEP")),
        with(rsa.clone(), "kty", json!("EC")),
        with(rsa.clone(), "kty", json!(null)),
        with(rsa.clone(), "kid", json!(7)),
        with(rsa.clone(), "n", json!("")),
        with(rsa.clone(), "n", json!("!")),
        with(rsa.clone(), "n", json!(base64([0xff; 1024]))),
        with(rsa.clone(), "e", json!(base64([1]))),
        with(rsa.clone(), "e", json!(base64([0xff; 16]))),
        with(rsa.clone(), "e", json!(null)),
        // A key server that publishes private keys: every client can sign with them.
        with(rsa, "d", json!("AQAB")),
        rsa_jwk("weak", RSA_1024_PUBLIC),
        // Every client could sign with it.
        json!({ "kty": "oct", "use": "sig", "kid": "s", "alg": "HS256", "k": secret }),
        with(p256.clone(), "crv", json!("P-384")),
        with(p256.clone(), "crv", json!("secp256k1")),
        with(p256.clone(), "x", json!(zeros)),
        with(p256.clone(), "x", json!(base64([1; 31]))),
        with(with(p256, "x", json!(base64([1; 31]))), "y", json!(base64([1; 33]))),
        // jsonwebtoken 10.3 panics on a short key of Ed25519.
        with(ed_jwk(), "x", json!(base64([1; 31]))),
        with(ed_jwk(), "x", json!("")),
        with(ed_jwk(), "crv", json!("X25519")),
        json!(7),
        json!([]),
        json!({}),
    ];
    for key in left_out {
        assert_eq!(read([key.clone()]), 0, "{key}");
        // It does not hide the others.
        assert_eq!(read([key, rsa_jwk("b", RSA_B_PUBLIC)]), 1);
    }
}

#[test]
fn edge_2_37_a_document_has_at_most_100_keys() {
    let keys =
        |count: usize| document((0..count).map(|key| rsa_jwk(&key.to_string(), RSA_A_PUBLIC)));
    assert_eq!(KeySet::parse(&keys(100)).unwrap().len(), 100);
    let error = KeySet::parse(&keys(101)).unwrap_err();
    assert_eq!(error, "the document has more than 100 keys");
    // Keys that are left out count too.
    let error = KeySet::parse(&document((0..101).map(Value::from))).unwrap_err();
    assert_eq!(error, "the document has more than 100 keys");
    let deep = "[".repeat(10_000);
    let texts =
        ["", "[]", "{}", r#"{"keys":{}}"#, "null", &deep, r#"{"keys":[],"keys":[]}"#, "<html>"];
    for text in texts {
        let error = KeySet::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error, "the answer is not a JWKS document", "{text:.20}");
    }
    assert_eq!(KeySet::parse(br#"{"keys":[]}"#).unwrap().len(), 0);
}
