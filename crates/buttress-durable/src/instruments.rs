//! The metrics of this crate.

use buttress::telemetry::{Instrument, Unit};

const LAYER: &[&str] = &["layer"];
const LAYER_STATUS: &[&str] = &["layer", "status"];
const DEFINITION_STATUS: &[&str] = &["layer", "definition", "status"];

/// Creates a counter whose only label is the layer.
const fn counter(name: &'static str, description: &'static str) -> Instrument {
    Instrument::counter(name, LAYER, description)
}

/// Creates a gauge of a count, whose only label is the layer.
const fn gauge(name: &'static str, description: &'static str) -> Instrument {
    Instrument::gauge(name, Unit::Count, LAYER, description)
}

/// Creates a gauge of seconds whose only label is the layer.
const fn seconds(name: &'static str, description: &'static str) -> Instrument {
    Instrument::gauge(name, Unit::Seconds, LAYER, description)
}

/// Defines a static for each metric, and the list of all metrics.
macro_rules! instruments {
    ($($name:ident = $made:expr;)+) => {
        $(pub(crate) static $name: Instrument = $made;)+

        /// Every metric of this crate.
        pub static INSTRUMENTS: &[&Instrument] = &[$(&$name),+];
    };
}

instruments! {
    BARRIER_PASSAGES = Instrument::counter("buttress.barrier.passages", &["layer", "passage"], "Actions and undos of sagas that a participant was asked for, by the answer.");
    BARRIER_FAILED = counter("buttress.barrier.failed", "Operations of the barrier that failed.");

    INBOX_RECEIPTS = Instrument::counter("buttress.inbox.receipts", &["layer", "receipt"], "Messages received, by whether they were new.");
    INBOX_FAILED = counter("buttress.inbox.failed", "Operations of the inbox that failed.");

    OUTBOX_WRITTEN = counter("buttress.outbox.written", "Messages whose writers reported the commit.");
    OUTBOX_RELAYED = counter("buttress.outbox.relayed", "Messages that the publisher took.");
    OUTBOX_FAILED = counter("buttress.outbox.failed", "Deliveries that ended without success.");
    OUTBOX_REDELIVERED = counter("buttress.outbox.redelivered", "Messages published again after a failed attempt or a lost relay.");
    OUTBOX_DEAD_LETTERS = counter("buttress.outbox.dead_letters", "Messages that became dead letters.");
    OUTBOX_POLLS = counter("buttress.outbox.polls", "Queries for messages.");
    OUTBOX_STORE_FAILED = counter("buttress.outbox.store_failed", "Operations of the store of a relay that failed.");
    OUTBOX_REFRESH_FAILED = counter("buttress.outbox.refresh_failed", "Queries of a monitor for the backlog that failed: its gauges keep their last numbers.");
    OUTBOX_PARTITIONS = gauge("buttress.outbox.partitions", "Partitions that the relays of this process own.");
    OUTBOX_RUNNING = gauge("buttress.outbox.running", "Messages that are being published.");
    OUTBOX_LAG = Instrument::histogram("buttress.outbox.lag", Unit::Seconds, LAYER, "The time from when a message was due until it was delivered.");
    OUTBOX_LAG_AVERAGE = seconds("buttress.outbox.lag.average", "The mean lag of all messages of this process.");
    OUTBOX_LAG_MAX = seconds("buttress.outbox.lag.max", "The longest lag of a message of this process.");
    OUTBOX_BACKLOG = gauge("buttress.outbox.backlog", "Messages in the store that are neither delivered nor dead.");
    OUTBOX_OLDEST = seconds("buttress.outbox.backlog.oldest_age", "How long the oldest due message in the store has been due.");
    OUTBOX_DEAD = gauge("buttress.outbox.dead", "Dead letters in the store.");
    OUTBOX_HELD = gauge("buttress.outbox.held_keys", "Keys in the store that are held.");

    SAGA_STARTED = counter("buttress.saga.started", "Sagas started by this executor.");
    SAGA_RESUMED = counter("buttress.saga.resumed", "Sagas taken over by this executor.");
    SAGA_ENDED = Instrument::counter("buttress.saga.ended", LAYER_STATUS, "Sagas that completed, were compensated or became stuck on this executor.");
    SAGA_FENCED = counter("buttress.saga.fenced", "Sagas that another worker took over.");
    SAGA_STEPS = Instrument::counter("buttress.saga.steps", &["layer", "end"], "Actions and undos of steps that ended, by their end.");
    SAGA_STORE_FAILED = counter("buttress.saga.store_failed", "Operations of the store of an executor that failed.");
    SAGA_REFRESH_FAILED = counter("buttress.saga.refresh_failed", "Queries of a monitor for unfinished sagas that failed: its gauges keep their last numbers.");
    SAGA_ACTIVE = gauge("buttress.saga.active", "Sagas that run on this executor.");
    SAGA_STORED = Instrument::gauge("buttress.saga.stored", Unit::Count, DEFINITION_STATUS, "Sagas in the store that have not ended, of every worker.");
    SAGA_OLDEST = Instrument::gauge("buttress.saga.oldest_age", Unit::Seconds, DEFINITION_STATUS, "How long the monitor has seen the oldest saga in this status.");
}
