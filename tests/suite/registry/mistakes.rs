//! Mistakes in a document, and messages that name them.

use buttress::registry::{Document, Registry};

use super::{yaml, yaml_error};

/// Regression: of two instances of one name the first was lost silently.
#[test]
fn a_name_that_comes_twice_is_an_error_in_every_format() {
    let error = yaml_error("bulkhead:\n  db: {max-concurrent: 1}\n  db: {max-concurrent: 2}\n");
    assert!(error.contains(r#"the name "db" is used twice"#), "{error}");
    let json = r#"{"resilience": {"bulkhead": {"db": {}, "db": {"max-concurrent": 2}}}}"#;
    let error = serde_json::from_str::<Document>(json).unwrap_err().to_string();
    assert!(error.contains(r#"the name "db" is used twice"#), "{error}");
    let error = toml::from_str::<Document>("[bulkhead.db]\n[bulkhead.db]\n").unwrap_err();
    assert!(error.to_string().contains("duplicate key"), "{error}");
    let error = yaml_error("bulkhead: {db: {max-concurrent: 1, max-concurrent: 2}}");
    assert!(error.contains("duplicate field") && error.contains("max-concurrent"), "{error}");
    let two = yaml("{bulkhead: {db: {}}, retry: {db: {}}}");
    assert!(Registry::new(&two).is_ok(), "each pattern has separate names");
}

/// Regression: the error named fields of the Rust types, which no document contains.
#[test]
fn a_mistake_in_a_retry_is_named_by_the_key_of_the_document() {
    for (text, key) in [
        ("max-delay: 10ms", "retry.api.max-delay"),
        ("base-delay: 20s", "retry.api.max-delay"),
        ("base-delay: 366d, max-delay: 367d", "retry.api.base-delay"),
        ("jitter: fraction, jitter-fraction: 2.0", "retry.api.jitter-fraction"),
    ] {
        let document = yaml(&format!("retry: {{api: {{{text}}}}}"));
        assert_eq!(Registry::new(&document).unwrap_err().field(), key, "{text}");
    }
}

/// Regression: the error named the field, and the value of another field.
#[test]
fn a_change_of_the_window_is_refused_with_the_window_that_was_asked_for() {
    let failure_rate = "circuit-breaker: {a: {failure-rate: 0.5}}";
    for (from, to, field, value) in [
        ("circuit-breaker: {a: {}}", failure_rate, "failure-rate", "a window of 100 calls"),
        (failure_rate, "circuit-breaker: {a: {}}", "failure-rate", "failures in a row"),
        (
            failure_rate,
            "circuit-breaker: {a: {failure-rate: 0.5, count-window: 50}}",
            "count-window",
            "a window of 50 calls",
        ),
        (
            failure_rate,
            "circuit-breaker: {a: {failure-rate: 0.5, time-window: 5s}}",
            "time-window",
            "a window of 5s",
        ),
    ] {
        let registry = Registry::new(&yaml(from)).unwrap();
        let error = registry.apply(&yaml(to)).unwrap_err();
        assert_eq!(error.field(), format!("circuit-breaker.a.{field}"), "{from} to {to}");
        assert_eq!(error.value(), value, "{from} to {to}");
    }
    let registry = Registry::new(&yaml("circuit-breaker: {a: {}}")).unwrap();
    let unused = yaml("circuit-breaker: {a: {count-window: 50}}");
    assert!(registry.apply(&unused).is_ok(), "failures in a row have no such window");
}

#[test]
fn a_document_can_be_a_part_of_a_larger_one() {
    #[derive(serde::Deserialize)]
    struct Settings {
        port: u16,
        limits: Document,
    }
    let text = "port = 1\n[limits.bulkhead.db]\nmax-concurrent = 3\n";
    let settings: Settings = toml::from_str(text).unwrap();
    let registry = Registry::new(&settings.limits).unwrap();
    assert_eq!(registry.bulkhead("db").unwrap().handle().stats().max_concurrent, 3);
    assert_eq!(settings.port, 1);
}
