//! The log lines of this thread.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

/// The log lines of this thread while it lives, from INFO up: level and text.
pub(crate) struct Lines {
    lines: Arc<Mutex<Vec<(Level, String)>>>,
    _guard: DefaultGuard,
}

impl Lines {
    pub(crate) fn capture() -> Self {
        let lines = Arc::<Mutex<Vec<_>>>::default();
        let guard = tracing::subscriber::set_default(Capture(lines.clone()));
        Self { lines, _guard: guard }
    }

    /// Returns the lines since the last call.
    pub(crate) fn take(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }

    /// Returns the number of lines per level since the last call: errors, warnings, and others.
    pub(crate) fn levels(&self) -> (usize, usize, usize) {
        let lines = self.take();
        let of = |level: Level| lines.iter().filter(|line| line.0 == level).count();
        (of(Level::ERROR), of(Level::WARN), of(Level::INFO))
    }
}

struct Capture(Arc<Mutex<Vec<(Level, String)>>>);

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("buttress")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push((*event.metadata().level(), text.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}
