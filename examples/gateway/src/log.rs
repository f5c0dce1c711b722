//! Prints warnings and errors of the gateway to the standard error, one line each.

use std::fmt::{Debug, Write};

use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Prints the log lines of the process from now on. A program of production uses `tracing-subscriber` here.
pub(crate) fn begin() {
    // It fails only if another one prints them already.
    let _ = tracing::subscriber::set_global_default(Lines);
}

struct Lines;

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let (mut message, mut fields) = (String::new(), String::new());
        event.record(&mut |field: &Field, value: &dyn Debug| {
            // To write to a text does not fail.
            let _ = match field.name() {
                "message" => write!(message, "{value:?}"),
                name => write!(fields, " {name}={value:?}"),
            };
        });
        eprintln!("{}: {message}{fields}", event.metadata().level());
    }
}
