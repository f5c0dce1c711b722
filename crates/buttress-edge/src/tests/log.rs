//! The log lines of a test.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, OnceLock};

use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing::{Dispatch, Event, Metadata, Subscriber};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<String>>);

/// The lines of this thread, from its creation to its end.
pub(crate) struct Log {
    lines: Lines,
    _guard: DefaultGuard,
}

/// Begins to collect the lines of this thread.
pub(crate) fn begin() -> Log {
    // While the process has one subscriber only, `tracing` asks the subscriber of the thread that writes a line for the
    // first time. A thread without a subscriber then switches the line off for all threads.
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(NoSubscriber::default()));
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    Log { lines, _guard }
}

impl Log {
    pub(crate) fn text(&self) -> String {
        self.lines.0.lock().unwrap().clone()
    }

    pub(crate) fn matches(&self, text: &str) -> usize {
        self.text().matches(text).count()
    }
}

#[test]
fn a_line_that_another_thread_has_written_before_is_collected() {
    let log = begin();
    let write = || tracing::event!(tracing::Level::WARN, "a line");
    std::thread::scope(|scope| scope.spawn(write).join().unwrap());
    write();
    assert_eq!(log.matches("a line"), 1);
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = self.0.lock().unwrap();
        event.record(&mut |field: &Field, value: &dyn Debug| {
            text.push_str(&format!("{field}={value:?}\n"));
        });
    }
}
