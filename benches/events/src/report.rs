//! The report, as Markdown: printed, and written to `EVENTS.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::bench::{Error, MESSAGES, Row};
use crate::process;
use crate::toolchain::{Toolchain, today};

/// A measured number and its bound.
pub struct Target {
    what: String,
    measured: f64,
    bound: f64,
    is_least: bool,
    note: String,
}

impl Target {
    pub fn at_most(what: &str, measured: f64, bound: f64) -> Self {
        Self { what: what.to_owned(), measured, bound, is_least: false, note: String::new() }
    }

    pub fn at_least(what: &str, measured: f64, bound: f64) -> Self {
        Self { is_least: true, ..Self::at_most(what, measured, bound) }
    }

    /// Sets a remark on how to read the number.
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    fn is_reached(&self) -> bool {
        // As it is printed: 0.70 reaches 0.7.
        let measured = (self.measured * 100.0).round() / 100.0;
        if self.is_least { measured >= self.bound } else { measured <= self.bound }
    }
}

/// Prints the rows and the targets, and writes them.
pub fn write(rows: &[Row], others: Vec<Target>, rounds: usize) -> Result<(), Error> {
    let Toolchain { rustc, target } = Toolchain::current();
    let mut text = format!(
        "# Events beside raw loops

<!-- Written by `.ci/kafka cargo run --release --manifest-path benches/events/Cargo.toml`. Do not edit. -->

{} · {rustc} · {target} · {}

## Targets

| what | measured | target | reached | remark |
|---|---|---|---|---|
",
        today(),
        process::machine(),
    );
    let of_rows = rows.iter().map(|row| {
        let what = format!("{}, of the raw loop", row.what);
        Target::at_least(&what, row.ours / row.raw, row.target)
    });
    for target in of_rows.chain(others) {
        let Target { what, measured, bound, is_least, note } = &target;
        let side = if *is_least { "at least" } else { "at most" };
        let reached = if target.is_reached() { "yes" } else { "**no**" };
        writeln!(text, "| {what} | {measured:.2} | {side} {bound} | {reached} | {note} |")?;
    }
    write!(
        text,
        "
## Messages per second

| | raw | ours | ratio |
|---|---|---|---|
"
    )?;
    for Row { what, raw, ours, .. } in rows {
        writeln!(text, "| {what} | {raw:.0} | {ours:.0} | {:.2} |", ours / raw)?;
    }
    write!(
        text,
        "
## How to read it

- Payloads have 200 bytes, and there are 1 000 keys. The figures are medians of {rounds} rounds of {MESSAGES} messages.
  Raw loop and ours take turns. Both are one process beside the broker on the same machine; compare ratios.
- *Publish* waits for the confirmation of each message. *Relay* adds an outbox in memory: leases, order by key, and the
  record of each delivery.
- *Consume* has an empty handler, keeps the order of each key, and acknowledges each message. The raw loop of Redis reads
  256 entries and acknowledges them together, then reads again. The raw loop of NATS acknowledges each message of a batch
  of 256. The raw loop of RabbitMQ has the same queues, with a prefetch of 256 for all of them, and acknowledges each
  message. The raw loop of Kafka is one thread that polls, and stores each offset for a commit every 100 ms. None of them
  hands a message to another task or keeps an order by key beyond the broker's order.
- RabbitMQ has quorum queues on both sides, messages are persistent and mandatory. Kafka's broker is Tansu, which keeps
  messages in memory; both sides are idempotent producers that send without a delay. The time of its consumers begins with
  the first message: to join a group takes seconds. Both consumers have the same bounds of the messages that wait in the
  client. With the bounds that the client has by default, a loop would be measured after most of its messages had come.
- *Take-over* is the time from the SIGKILL of the process that holds a message to the call of the handler in another
  process. RabbitMQ has no lease, because it sees the end of the connection. On Kafka the other process has joined the
  group before the kill, as a group has it whose members share the work: to admit a member takes the broker seconds.
- A message goes through the *bus* from its publication to its settlement by the one subscriber, in batches of 64.
- *Why the targets of relays are missed.* A relay over Redis takes 23 700 instructions a message, the raw loop 11 700
  (callgrind, one shard, without system calls). Of the difference the allocator takes 5 000, copies of futures 2 800,
  the record of each delivery 2 000, hashes of keys and ids 2 000, timers 1 800. The raw loop keeps no order by key, holds
  no lease, and records nothing. Where a broker takes more of the time, as RabbitMQ does, the ratio is near the target.
- *Why the targets of publishers are missed.* A publisher chooses the shard, checks sizes, and watches a limit for each
  message. A publisher over NATS takes 77 200 instructions a message, the raw loop 39 700 (callgrind, one shard, without
  system calls). The difference is spread: the allocator, headers that are checked and percent-encoded, ids as text, and a
  timer for each message. RabbitMQ and Kafka, which take longer to confirm, hide it.
- *Why the targets of Kafka's consumers are missed.* The raw loop takes 1 500 instructions a message, ours 13 000 (callgrind,
  one partition, without system calls): the allocator 3 900, hash maps of keys and places 2 200, lanes and handlers
  2 000, the client 1 800 of which the raw loop has 800, copies 700, the thread of the member 600. The raw loop reads no
  key and no header, copies no payload, and hands no message to another task.
- *Why the take-over on Kafka takes longer.* The broker notices the end of the session, then waits until the other members
  have joined again.
- *The times of the bus and of `dispatch`* vary with the processor, because they are mostly locked operations: 392 ns and
  43 ns on one on which tokio's channel took 201 ns.
"
    )?;
    println!("{text}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("EVENTS.md");
    Ok(fs::write(file, text)?)
}
