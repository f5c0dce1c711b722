//! Registry: named instances from one document. A new document changes them and keeps their state.

mod mistakes;

use buttress::CircuitState;
use buttress::registry::{Document, Pattern, Registry};
use tower::Layer;

use crate::support::{Ask, Scripted, Step, begin, behind, is_pending, ms, now};

const YAML: &str = "
resilience:
  rate-limiter:
    payment-api:
      max-tokens: 10
      refill-tokens: 5
      refill-period: 2m
    catalogue: {}
  circuit-breaker:
    payment-api:
      consecutive-failures: 1
      open-for: 500ms
  bulkhead:
    db:
      max-concurrent: 2
      queue: 3
      max-wait: 50ms
  retry:
    payment-api:
      attempts: 4
      base-delay: 0.25
      jitter: none
  time-limiter:
    payment-api:
      limit: 1h
";

const TOML: &str = r#"
[resilience.rate-limiter.payment-api]
max-tokens = 10
refill-tokens = 5
refill-period = "2m"

[resilience.rate-limiter.catalogue]

[resilience.circuit-breaker.payment-api]
consecutive-failures = 1
open-for = "500ms"

[resilience.bulkhead.db]
max-concurrent = 2
queue = 3
max-wait = "50ms"

[resilience.retry.payment-api]
attempts = 4
base-delay = 0.25
jitter = "none"

[resilience.time-limiter.payment-api]
limit = "1h"
"#;

fn yaml(text: &str) -> Document {
    serde_norway::from_str(text).unwrap()
}

fn yaml_error(text: &str) -> String {
    serde_norway::from_str::<Document>(text).unwrap_err().to_string()
}

fn names(registry: &Registry, pattern: Pattern) -> Vec<String> {
    registry.names(pattern).iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn yaml_and_toml_build_the_same_instances() {
    for document in [yaml(YAML), toml::from_str(TOML).unwrap()] {
        let registry = Registry::new(&document).unwrap();
        let limiter = registry.rate_limiter("payment-api").unwrap().handle().stats();
        assert_eq!((limiter.max_tokens, limiter.refill_tokens), (10, 5));
        assert_eq!(limiter.refill_period, ms(120_000));
        let defaults = registry.rate_limiter("catalogue").unwrap().handle().stats();
        assert_eq!((defaults.max_tokens, defaults.refill_period), (10, ms(1000)));
        assert_eq!(registry.bulkhead("db").unwrap().handle().stats().max_concurrent, 2);
        assert_eq!(registry.retry("payment-api").unwrap().handle().stats().attempts, 4);
        let limit = registry.time_limiter("payment-api").unwrap().handle().stats().limit;
        assert_eq!(limit, ms(3_600_000));
        let breaker = registry.circuit_breaker("payment-api").unwrap().handle();
        breaker.try_acquire().unwrap().failure();
        let open = breaker.check().unwrap_err();
        assert_eq!((open.retry_after(), open.layer()), (Some(ms(500)), "payment-api"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_a_document_waits_as_it_says() {
    let registry = Registry::new(&yaml(YAML)).unwrap();
    let (mut service, log) = behind(&registry.retry("payment-api").unwrap(), []);
    log.always(Step::Fail);
    assert!(crate::support::call(&mut service, Ask(0)).await.is_err());
    assert_eq!(log.at(), [0, 250, 750, 1750]);
}

#[test]
fn names_are_sorted_and_unknown_ones_are_named_with_those_there_are() {
    let registry = Registry::new(&yaml(YAML)).unwrap();
    assert_eq!(names(&registry, Pattern::RateLimiter), ["catalogue", "payment-api"]);
    assert_eq!(names(&registry, Pattern::Bulkhead), ["db"]);
    let error = registry.rate_limiter("paiment-api").unwrap_err().to_string();
    assert_eq!(
        error,
        r#"no rate-limiter is named "paiment-api"; there are: catalogue, payment-api"#
    );
    let error = Registry::empty().bulkhead("db").unwrap_err().to_string();
    assert_eq!(error, r#"no bulkhead is named "db"; there are: none"#);
}

#[test]
fn keys_that_do_not_exist_are_errors_with_their_path() {
    let error = yaml_error("rate-limiter:\n  api:\n    max-token: 5\n");
    assert!(error.contains("rate-limiter.api"), "{error}");
    assert!(error.contains("max-token") && error.contains("max-tokens"), "{error}");
    let error = yaml_error("rate-limitr:\n  api: {}\n");
    assert!(error.contains("rate-limitr") && error.contains("rate-limiter"), "{error}");
}

#[test]
fn values_that_cannot_be_read_are_errors_with_their_path() {
    for (key, value) in [
        ("rate-limiter.api.max-tokens", "-1"),
        ("rate-limiter.api.refill-period", "5 parsecs"),
        ("rate-limiter.api.refill-period", "-5"),
        ("bulkhead.db.max-concurrent", "many"),
        ("retry.api.jitter", "some"),
        ("time-limiter.api.limit", ".inf"),
    ] {
        let parts: Vec<_> = key.split('.').collect();
        let error =
            yaml_error(&format!("{}: {{{}: {{{}: {value}}}}}", parts[0], parts[1], parts[2]));
        assert!(error.contains(key), "{key}: {value}: {error}");
    }
}

#[test]
fn values_out_of_bounds_are_errors_with_their_path() {
    let cases = [
        ("bulkhead: {db: {max-concurrent: 0}}", "bulkhead.db.max-concurrent: 0 is not at least 1"),
        (
            "circuit-breaker: {api: {failure-rate: 1.5}}",
            "circuit-breaker.api.failure-rate: 1.5 is not above 0 and at most 1",
        ),
        ("time-limiter: {api: {limit: 0}}", "time-limiter.api.limit: 0s is not longer than zero"),
    ];
    for (text, expected) in cases {
        assert_eq!(Registry::new(&yaml(text)).unwrap_err().to_string(), expected);
    }
}

#[test]
fn durations_are_written_as_text_or_seconds() {
    let limit = |value: &str| {
        let text = format!("time-limiter: {{api: {{limit: {value}}}}}");
        let registry = Registry::new(&yaml(&text)).unwrap();
        registry.time_limiter("api").unwrap().handle().stats().limit
    };
    for (value, expected) in [
        ("250ms", 250),
        ("5s", 5000),
        ("2m", 120_000),
        ("1h", 3_600_000),
        ("7", 7000),
        ("0.5", 500),
    ] {
        assert_eq!(limit(value), ms(expected), "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_document_reaches_live_instances_and_keeps_their_state() {
    let registry = Registry::new(&yaml(YAML)).unwrap();
    let limiter = registry.rate_limiter("payment-api").unwrap().handle();
    let breaker = registry.circuit_breaker("payment-api").unwrap().handle();
    let wall = registry.bulkhead("db").unwrap();
    let (inner, log) = Scripted::new();
    log.always(Step::Never);
    let mut running = begin(&mut wall.layer(inner), Ask(0));
    assert!(is_pending(&mut running));
    limiter.try_acquire(8).unwrap();
    breaker.try_acquire().unwrap().failure();

    let changed = YAML
        .replace("max-tokens: 10", "max-tokens: 100")
        .replace("max-concurrent: 2", "max-concurrent: 1")
        .replace("limit: 1h", "limit: 3s");
    let applied = registry.apply(&yaml(&changed)).unwrap();
    assert_eq!((applied.created.len(), applied.updated.len()), (0, 6));

    assert_eq!((limiter.stats().max_tokens, limiter.available()), (100, 2), "as much as before");
    assert_eq!(breaker.state(), CircuitState::Open);
    assert_eq!(wall.handle().stats().active, 1);
    assert!(wall.handle().try_acquire().is_err(), "the new limit, and the call that runs");
    assert_eq!(registry.time_limiter("payment-api").unwrap().handle().stats().limit, ms(3000));
}

#[test]
fn services_made_before_and_after_a_change_share_one_state() {
    let registry = Registry::new(&yaml("rate-limiter: {api: {max-tokens: 2}}")).unwrap();
    let mut before = registry.rate_limiter("api").unwrap().layer(Scripted::new().0);
    registry.apply(&yaml("rate-limiter: {api: {max-tokens: 3}}")).unwrap();
    let mut after = registry.rate_limiter("api").unwrap().layer(Scripted::new().0);
    assert!(now(begin(&mut before, Ask(0))).is_ok());
    assert!(now(begin(&mut after, Ask(0))).is_ok());
    assert_eq!(registry.rate_limiter("api").unwrap().handle().available(), 0, "a level of 2, kept");
}

#[test]
fn a_document_with_any_mistake_changes_nothing() {
    let registry = Registry::new(&yaml("rate-limiter: {api: {max-tokens: 2}}")).unwrap();
    for bad in [
        "{bulkhead: {new: {}}, rate-limiter: {api: {max-tokens: 7}, zero: {max-tokens: 0}}}",
        "{rate-limiter: {api: {max-tokens: 7}, new: {}}, time-limiter: {x: {limit: 0}}}",
        "{bulkhead: {new: {}}, rate-limiter: {api: {policy: fixed-window, max-tokens: 7}}}",
    ] {
        assert!(registry.apply(&yaml(bad)).is_err(), "{bad}");
        assert_eq!(registry.rate_limiter("api").unwrap().handle().stats().max_tokens, 2);
        assert_eq!(names(&registry, Pattern::RateLimiter), ["api"]);
        assert!(names(&registry, Pattern::Bulkhead).is_empty());
    }
}

#[test]
fn an_instance_the_document_forgets_stays() {
    let registry = Registry::new(&yaml("{bulkhead: {a: {}, b: {max-concurrent: 3}}}")).unwrap();
    let applied = registry.apply(&yaml("{bulkhead: {a: {}, c: {}}}")).unwrap();
    let text = |list: &[(Pattern, buttress::Name)]| {
        list.iter().map(|(pattern, name)| format!("{pattern}.{name}")).collect::<Vec<_>>()
    };
    assert_eq!(text(&applied.created), ["bulkhead.c"]);
    assert_eq!(text(&applied.updated), ["bulkhead.a"]);
    assert_eq!(text(&applied.unmentioned), ["bulkhead.b"]);
    assert_eq!(names(&registry, Pattern::Bulkhead), ["a", "b", "c"]);
    assert_eq!(registry.bulkhead("b").unwrap().handle().stats().max_concurrent, 3);
}

#[tokio::test(start_paused = true)]
async fn balancers_follow_the_rules_of_the_document() {
    use buttress::balance::{Balance, Endpoints};
    use buttress::discover::Instance;

    let document = |eject: u32, wait: &str| {
        let text = format!(
            r#"{{"balance": {{"orders": {{"policy": "round-robin", "max-wait": "{wait}", "ramp": "5s",
                "eject": {{"consecutive-failures": {eject}, "longest": "60s"}}}}}}}}"#
        );
        serde_json::from_str::<Document>(&text).unwrap()
    };
    let registry = Registry::new(&document(2, "250ms")).unwrap();
    assert_eq!(registry.names(Pattern::Balance), ["orders".into()]);
    let set = Endpoints::new();
    let (works, fails) = (Scripted::new(), Scripted::new());
    set.replace(&[Instance::at("works"), Instance::at("fails")], |it| match it.id() {
        "works" => works.0.clone(),
        _ => fails.0.clone(),
    });
    fails.1.always(Step::Fail);
    let mut balance = Balance::with_rules(set, &registry.balance("orders").unwrap()).unwrap();
    let handle = balance.handle();
    registry.apply(&document(1, "100ms")).unwrap();
    let answers = [0, 1].map(|_| now(begin(&mut balance, Ask(0))).is_ok());
    assert_ne!(answers[0], answers[1], "one endpoint each");
    assert_eq!(handle.stats().ejected, 1, "one failure is enough now");

    works.1.block();
    let mut waits = begin(&mut balance, Ask(0));
    assert!(is_pending(&mut waits));
    tokio::time::advance(ms(100)).await;
    let error = now(waits).unwrap_err().to_string();
    assert_eq!(error, r#"balancer "orders" has 2 endpoints and none became ready (waited 100ms)"#);
    let wrong = registry.apply(&document(0, "1s")).unwrap_err();
    assert_eq!(wrong.to_string(), "balance.orders.eject.consecutive-failures: 0 is not at least 1");
    assert!(registry.balance("stock").unwrap_err().to_string().contains("orders"));
}
