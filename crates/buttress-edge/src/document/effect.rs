//! Finds keys without an effect: an operator who wrote one expects something that does not happen.

use buttress::InvalidConfig;
use serde_json::Value;

/// A key, the keys of which one must be there beside it, and what its error says. Each is a JSON pointer.
type Need = (&'static str, &'static [&'static str], &'static str);

/// The key of the attempts of a retry.
const ATTEMPTS: &str = "/retry/attempts";

/// The keys of a route that need another one.
const OF_ROUTES: &[Need] = &[
    (
        "/replay-buffer",
        &["/retry"],
        "set with a `retry` of at least 2 attempts: only a retry sends a body again",
    ),
    (
        "/backend-honours-idempotency-keys",
        &["/retry", "/split/fall-back"],
        "set with a `retry` of at least 2 attempts, or with `fall-back` of `split`",
    ),
    (
        "/split/salt",
        &["/split/stick-by-subject", "/split/stick-by-header"],
        "set with `stick-by-subject` or `stick-by-header`: without a key the side is chosen at random",
    ),
    ("/rate-limiter/claim-within", &[], "a key of the limiter of a route"),
    ("/per-client/rate-limiter/queue", &[], REFUSES),
    ("/per-client/rate-limiter/max-wait", &[], REFUSES),
    ("/per-client/rate-limiter/claim-within", &[], REFUSES),
];

const REFUSES: &str =
    "a key of the limiter of a client: a request without a token is refused, and does not wait";

/// The keys of an admission that need another one.
const OF_ADMISSIONS: &[Need] =
    &[("/jwt/insecure", &["/jwt/jwks"], "set with `jwks`: only a key server is asked")];

/// The pairs of keys of an admission of which the first one makes the second one useless.
const CONTRADICTIONS: &[(&str, &str, &str)] = &[
    ("/jwt/any-issuer", "/jwt/issuers", "set without `issuers`"),
    ("/jwt/any-audience", "/jwt/audiences", "set without `audiences`"),
];

/// Checks the keys of a route. An error has its path in the section.
pub(super) fn check_route(section: &Value) -> Result<(), InvalidConfig> {
    OF_ROUTES.iter().try_for_each(|need| check(section, need))?;
    if repeats(section) {
        return Ok(());
    }
    let keys = section.get("retry").and_then(Value::as_object).into_iter().flatten();
    match keys.map(|(key, _)| key).find(|key| *key != "attempts") {
        Some(key) => {
            let bound = "set with at least 2 `attempts`: the first attempt repeats nothing";
            Err(without_effect(&format!("/retry/{key}"), bound))
        }
        None => Ok(()),
    }
}

/// Whether a retry may repeat a request. Without `attempts` it makes 2.
fn repeats(section: &Value) -> bool {
    section.pointer(ATTEMPTS).and_then(Value::as_u64) != Some(1)
}

/// Checks the keys of an admission. An error has its path in the section.
pub(super) fn check_admission(section: &Value) -> Result<(), InvalidConfig> {
    OF_ADMISSIONS.iter().try_for_each(|need| check(section, need))?;
    for (key, other, bound) in CONTRADICTIONS {
        if is_set(section, key) && is_set(section, other) {
            return Err(without_effect(key, bound));
        }
    }
    Ok(())
}

fn check(section: &Value, (key, needed, bound): &Need) -> Result<(), InvalidConfig> {
    if is_set(section, key) && !needed.iter().any(|needed| is_set(section, needed)) {
        return Err(without_effect(key, bound));
    }
    Ok(())
}

/// Whether a key has another value than one that says the same as no key.
fn is_set(section: &Value, key: &str) -> bool {
    match section.pointer(key) {
        Some(_) if key == "/retry" => repeats(section),
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    }
}

fn without_effect(key: &str, bound: &'static str) -> InvalidConfig {
    let path = key.trim_start_matches('/').replace('/', ".");
    InvalidConfig::new(path, "a key without an effect here", bound)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn edge_2_52_only_a_key_that_is_there_and_does_nothing_is_refused() {
        let path =
            |section: Value| check_route(&section).err().map(|error| error.field().to_owned());
        for (section, refused) in [
            (json!({}), None),
            (json!({"replay-buffer": 1}), Some("replay-buffer")),
            (json!({"replay-buffer": 1, "retry": {}}), None),
            (json!({"replay-buffer": 1, "retry": {"attempts": 2}}), None),
            (json!({"replay-buffer": 1, "retry": {"attempts": 1}}), Some("replay-buffer")),
            (json!({"retry": {"attempts": 1}}), None),
            (json!({"retry": {"attempts": 1, "base-delay": "1s"}}), Some("retry.base-delay")),
            (json!({"retry": {"attempts": 2, "base-delay": "1s"}}), None),
            (
                json!({"backend-honours-idempotency-keys": true, "retry": {"attempts": 1}}),
                Some("backend-honours-idempotency-keys"),
            ),
            (json!({"backend-honours-idempotency-keys": false}), None),
            (
                json!({"backend-honours-idempotency-keys": true, "split": {"fall-back": false}}),
                Some("backend-honours-idempotency-keys"),
            ),
            (json!({"backend-honours-idempotency-keys": true, "split": {"fall-back": true}}), None),
            (json!({"split": {"salt": "a", "stick-by-subject": false}}), Some("split.salt")),
            (json!({"split": {"salt": "a", "stick-by-header": "b"}}), None),
        ] {
            assert_eq!(path(section.clone()).as_deref(), refused, "{section}");
        }
        let admission = |section: Value| check_admission(&section).is_ok();
        assert!(admission(json!({"jwt": {"insecure": true, "jwks": "http://a"}})));
        assert!(!admission(json!({"jwt": {"insecure": true, "hs256": {"env": "A"}}})));
        assert!(admission(json!({"jwt": {"any-issuer": true, "issuers": []}})));
        assert!(!admission(json!({"jwt": {"any-issuer": true, "issuers": ["a"]}})));
    }
}
