//! The log lines of this thread.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, OnceLock};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// The log lines of this thread while it lives, from INFO up: level and text.
pub(crate) struct Lines {
    lines: Arc<Mutex<Vec<(Level, String)>>>,
    _guard: DefaultGuard,
}

impl Lines {
    pub(crate) fn capture() -> Self {
        ask_every_subscriber();
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

/// Lets `tracing` ask the subscribers of all threads about a line that is written for the first time.
///
/// While the process has one subscriber only, `tracing` asks the subscriber of the thread that writes the line. A thread
/// without a subscriber then switches the line off for all threads. This adds a second subscriber, which lives forever.
pub(crate) fn ask_every_subscriber() {
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(NoSubscriber::default()));
}

#[test]
fn a_line_that_another_thread_has_written_before_is_captured() {
    let lines = Lines::capture();
    let write = || tracing::warn!(target: "buttress", "a line");
    std::thread::scope(|scope| scope.spawn(write).join().unwrap());
    write();
    assert_eq!(lines.levels(), (0, 1, 0));
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
