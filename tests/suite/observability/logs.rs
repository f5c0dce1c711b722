//! Log lines: plain values, and the name of the pattern where a layer has no name.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::{bulkhead, circuit_breaker, fallback, rate_limit, retry, time_limit};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, span};

use crate::support::lines::ask_every_subscriber;

type Line = (Level, String, Vec<(String, String)>);

/// A subscriber that keeps every log line.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Line>>>);

impl Lines {
    fn taken(&self) -> Vec<Line> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(String, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.others.push((name.to_owned(), format!("{value:?}"))),
        }
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        if !event.metadata().target().starts_with("buttress") {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = (*event.metadata().level(), fields.message, fields.others);
        self.0.lock().unwrap().push(line);
    }
}

/// Returns the value of the field `name` of the only line.
fn field<'a>(lines: &'a [Line], name: &str) -> Option<&'a str> {
    assert_eq!(lines.len(), 1, "{lines:?}");
    let mut fields = lines[0].2.iter();
    fields.find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}

#[tokio::test(start_paused = true)]
async fn fields_are_plain_values_and_an_unnamed_layer_says_its_pattern() {
    ask_every_subscriber();
    let lines = Lines::default();
    let _capturing = tracing::subscriber::set_default(lines.clone());

    let config = rate_limit::Config::new().max_tokens(1).refill(1, Duration::from_secs(1));
    let limiter = config.build().unwrap().handle();
    limiter.try_acquire(1).unwrap();
    limiter.try_acquire(1).unwrap_err();
    let refused = lines.taken();
    assert_eq!(field(&refused, "retry_after"), Some("1s"));
    assert_eq!(field(&refused, "kind"), Some("\"rate-limited\""));
    assert_eq!(field(&refused, "layer"), Some("\"rate_limit\""));
    assert_eq!((refused[0].0, refused[0].1.as_str()), (Level::DEBUG, "the layer refused a call"));

    let bulkhead = bulkhead::Config::new().max_concurrent(1).name("db").build().unwrap().handle();
    let _permit = bulkhead.try_acquire().unwrap();
    bulkhead.try_acquire().unwrap_err();
    let refused = lines.taken();
    assert_eq!(field(&refused, "layer"), Some("\"db\""));
    assert_eq!(field(&refused, "retry_after"), None, "without a hint the field is missing");

    let limit = time_limit::TimeLimitLayer::after(Duration::from_millis(100)).handle();
    limit.run(std::future::pending::<()>()).await.unwrap_err();
    let cut = lines.taken();
    assert_eq!(field(&cut, "limit"), Some("100ms"));
    assert_eq!(field(&cut, "layer"), Some("\"time_limit\""));

    let circuit = circuit_breaker::Config::new().consecutive_failures(1).build().unwrap().handle();
    circuit.try_acquire().unwrap().failure();
    let opened = lines.taken();
    assert_eq!(field(&opened, "layer"), Some("\"circuit_breaker\""));
    assert_eq!(opened[0].0, Level::WARN);

    let failing = || service_fn(async |(): ()| Err::<(), BoxError>("broken".into()));
    let retry = retry::Config::new().attempts(2).build().unwrap();
    retry.layer(failing()).oneshot(()).await.unwrap_err();
    let told = lines.taken();
    assert_eq!(field(&told[1..], "reason"), Some("\"attempts\""));
    assert_eq!(field(&told[1..], "layer"), Some("\"retry\""));

    let fallback = fallback::FallbackLayer::value(()).config(fallback::Config::new());
    fallback.layer(failing()).oneshot(()).await.unwrap();
    let told = lines.taken();
    assert_eq!(field(&told, "layer"), Some("\"fallback\""));
}
