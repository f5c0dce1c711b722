//! The metrics of this crate.

use buttress::telemetry::{Instrument, Unit};

const LAYER: &[&str] = &["layer"];
const GROUP: &[&str] = &["layer", "group"];
const PROJECTION: &[&str] = &["layer", "projection"];
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

/// Creates a counter of a projection.
const fn of_projection(name: &'static str, description: &'static str) -> Instrument {
    Instrument::counter(name, PROJECTION, description)
}

/// Creates a gauge of a projection.
const fn projection_gauge(name: &'static str, unit: Unit, description: &'static str) -> Instrument {
    Instrument::gauge(name, unit, PROJECTION, description)
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

    BUS_WAITING = Instrument::gauge("buttress.bus.waiting", Unit::Count, GROUP, "Messages that wait for a member of the group.");
    BUS_HELD = Instrument::gauge("buttress.bus.held", Unit::Count, GROUP, "Messages that a member of the group has received and not settled.");
    BUS_MEMBERS = Instrument::gauge("buttress.bus.members", Unit::Count, GROUP, "Members of the group.");
    BUS_DROPPED = Instrument::counter("buttress.bus.dropped", GROUP, "Messages that the queue of the group has dropped because it was full.");

    LETTERS_STORED = Instrument::gauge("buttress.dead_letters.stored", Unit::Count, GROUP, "Dead letters of the consumer group in the store.");
    LETTERS_DELAYED = Instrument::gauge("buttress.dead_letters.delayed", Unit::Count, GROUP, "Dead letters that a consumer replays by itself at their due time.");
    LETTERS_HELD = Instrument::gauge("buttress.dead_letters.held_keys", Unit::Count, GROUP, "Keys whose later messages are parked behind a dead letter.");
    LETTERS_OLDEST = Instrument::gauge("buttress.dead_letters.oldest_age", Unit::Seconds, GROUP, "How long ago the oldest dead letter of the consumer group died.");
    LETTERS_REFRESH_FAILED = Instrument::counter("buttress.dead_letters.refresh_failed", GROUP, "Queries of a monitor for dead letters that failed: its gauges keep their last numbers.");

    CONSUMER_RECEIVED = counter("buttress.consumer.received", "Messages that the transport delivered.");
    CONSUMER_JOINED = counter("buttress.consumer.joined", "Messages that were delivered again while the consumer held them.");
    CONSUMER_HANDLED = counter("buttress.consumer.handled", "Messages whose handler succeeded.");
    CONSUMER_RETRIED = counter("buttress.consumer.retried", "Attempts that failed and are repeated.");
    CONSUMER_DEAD_LETTERS = counter("buttress.consumer.dead_letters", "Messages that became dead letters of a consumer.");
    CONSUMER_REPLAYED = counter("buttress.consumer.replayed", "Dead letters that were replayed.");
    CONSUMER_LEFT_OUT = counter("buttress.consumer.left_out", "Dead letters that a replay found and left in the store, because another replay had their key, or an earlier letter of their key was not handled.");
    CONSUMER_RETURNED = counter("buttress.consumer.returned", "Messages that were returned to the transport after a failed attempt in a shutdown.");
    CONSUMER_REVOKED = counter("buttress.consumer.revoked", "Messages that were forgotten because another consumer owns their shard.");
    CONSUMER_LATE = counter("buttress.consumer.late", "Settled messages that another consumer owns by now, and replayed dead letters that another consumer has claimed: they are handled again.");
    CONSUMER_LOST = counter("buttress.consumer.lost", "Messages that the transport has lost.");
    CONSUMER_FAILED = counter("buttress.consumer.failed_operations", "Operations of the transport and of the dead letters that failed.");
    CONSUMER_RUNNING = gauge("buttress.consumer.running", "Handlers that run.");
    CONSUMER_HELD = gauge("buttress.consumer.held", "Messages that the consumer holds.");
    CONSUMER_PAUSED = gauge("buttress.consumer.paused", "1 while the consumer is paused, 0 otherwise.");

    INBOX_RECEIPTS = Instrument::counter("buttress.inbox.receipts", &["layer", "receipt"], "Messages received, by whether they were new.");
    INBOX_FAILED = counter("buttress.inbox.failed", "Operations of the inbox that failed.");

    EVENTS_LAST = gauge("buttress.events.last_position", "The position of the last event in the store.");
    EVENTS_UNSEQUENCED = seconds("buttress.events.unsequenced_age", "How old the oldest event without a position is.");
    EVENTS_REFRESH_FAILED = counter("buttress.events.refresh_failed", "Queries of a monitor for events and projections that failed: its gauges keep their last numbers.");

    PROJECTION_HANDLED = of_projection("buttress.projection.handled", "Events that the handler has handled, with their checkpoint written.");
    PROJECTION_BATCHES = of_projection("buttress.projection.batches", "Calls of the handler that ended with a commit.");
    PROJECTION_FAILED = of_projection("buttress.projection.failed", "Calls of the handler that failed.");
    PROJECTION_SKIPPED = of_projection("buttress.projection.skipped", "Events that the projection has skipped.");
    PROJECTION_PARKED = of_projection("buttress.projection.parked", "Events that became dead letters of the projection.");
    PROJECTION_FENCED = of_projection("buttress.projection.fenced", "Commits that failed because another worker had taken the projection over.");
    PROJECTION_OPERATIONS = of_projection("buttress.projection.failed_operations", "Operations of the store that failed.");
    PROJECTION_LEASED = projection_gauge("buttress.projection.leased", Unit::Count, "1 while this process has the lease of the projection.");
    PROJECTION_STOPPED = projection_gauge("buttress.projection.stopped", Unit::Count, "1 while the projection has stopped at an event.");
    PROJECTION_PAUSED = projection_gauge("buttress.projection.paused", Unit::Count, "1 while the projection is paused.");
    PROJECTION_LAG = projection_gauge("buttress.projection.lag", Unit::Count, "Events that the projection has not handled, of every process.");
    PROJECTION_AGE = projection_gauge("buttress.projection.oldest_age", Unit::Seconds, "How old the oldest event is that the projection has not handled.");

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
    SAGA_WOKEN = counter("buttress.saga.woken", "Sagas that continued on this executor after a wait.");
    SAGA_SIGNALLED = counter("buttress.saga.signalled", "Signals that sagas took on this executor.");
    SAGA_FENCED = counter("buttress.saga.fenced", "Sagas that another worker took over.");
    SAGA_STEPS = Instrument::counter("buttress.saga.steps", &["layer", "end"], "Actions and undos of steps that ended, by their end.");
    SAGA_STORE_FAILED = counter("buttress.saga.store_failed", "Operations of the store of an executor that failed.");
    SAGA_REFRESH_FAILED = counter("buttress.saga.refresh_failed", "Queries of a monitor for unfinished sagas that failed: its gauges keep their last numbers.");
    SAGA_ACTIVE = gauge("buttress.saga.active", "Sagas that run on this executor.");
    SAGA_STORED = Instrument::gauge("buttress.saga.stored", Unit::Count, DEFINITION_STATUS, "Sagas in the store that have not ended, of every worker.");
    SAGA_OLDEST = Instrument::gauge("buttress.saga.oldest_age", Unit::Seconds, DEFINITION_STATUS, "How long the monitor has seen the oldest saga in this status.");
}
