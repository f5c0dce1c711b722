//! The bus and the dispatch: the time and the allocations of an event and of a request.

use std::hint::black_box;
use std::time::{Duration, Instant};

use allocation_counter::measure as count;
use buttress_durable::bus::{Bus, Pattern, Subscribe, Subscription};
use buttress_durable::consume::{Settle, Source as _};
use buttress_durable::dispatch::{Dispatch, NoHandler, Request};
use buttress_durable::outbox::Message;
use tokio::sync::broadcast;
use tower::service_fn;

use crate::bench::{Error, ROUNDS, median, new_message};
use crate::report::Target;

/// Events, and requests, of a round.
const EVENTS: usize = 64_000;
/// Events that are published before the subscriber receives them.
const BATCH: usize = 64;

struct Ask(u64);

impl Request for Ask {
    type Response = u64;
    type Error = NoHandler;
}

/// The messages of a round, made before its time begins.
fn messages() -> Vec<Vec<Message>> {
    let message = |number| Message::new(new_message(number), 0, 0, Duration::ZERO);
    let batch = |from: usize| (from..from + BATCH).map(message).collect();
    (0..EVENTS).step_by(BATCH).map(batch).collect()
}

async fn through(bus: &Bus, member: &Subscription, batch: Vec<Message>) -> Result<(), Error> {
    for message in batch {
        bus.publish(message).await?;
    }
    member.want(BATCH);
    let batch = member.receive().await?;
    let done: Vec<_> = batch.messages.iter().map(|it| (it.token, Settle::Done)).collect();
    black_box(&batch.messages);
    member.settle(&done).await?;
    Ok(())
}

async fn broadcast_round() -> Result<f64, Error> {
    let (sender, mut receiver) = broadcast::channel(BATCH);
    let messages = messages();
    let begun = Instant::now();
    for batch in messages {
        for message in batch {
            sender.send(message).map_err(|_| "no receiver")?;
        }
        for _ in 0..BATCH {
            black_box(receiver.recv().await?);
        }
    }
    Ok(nanos(begun, EVENTS))
}

fn nanos(begun: Instant, events: usize) -> f64 {
    begun.elapsed().as_nanos() as f64 / events as f64
}

/// Measures on the calling thread, because it counts this thread's allocations.
pub fn measure(runtime: &tokio::runtime::Runtime) -> Result<Vec<Target>, Error> {
    let bus = Bus::new();
    let member = bus.subscribe("billing", Subscribe::new(Pattern::all()))?;
    let (mut ours, mut channel, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    let (mut allocated, mut boxed) = (0.0, 0.0);
    let answer = |ask: Ask| std::future::ready(Ok::<u64, NoHandler>(black_box(ask.0)));
    let dispatch = Dispatch::builder().on::<Ask, _>(service_fn(answer))?.build()?;
    for _ in 0..ROUNDS {
        let messages = messages();
        let mut result = Ok(());
        let begun = Instant::now();
        let counted = count(|| {
            result = runtime.block_on(async {
                for batch in messages {
                    through(&bus, &member, batch).await?;
                }
                Ok(())
            });
        });
        ours.push(nanos(begun, EVENTS));
        let _: () = result.map_err(|error: Error| error)?;
        allocated = counted.count_total as f64 / EVENTS as f64;
        channel.push(runtime.block_on(broadcast_round())?);
        let begun = Instant::now();
        let mut failed = false;
        let counted = count(|| {
            runtime.block_on(async {
                for number in 0..EVENTS as u64 {
                    failed |= black_box(dispatch.send(Ask(number)).await).is_err();
                }
            });
        });
        calls.push(nanos(begun, EVENTS));
        boxed = counted.count_total as f64 / EVENTS as f64;
        if failed {
            return Err("a request without an answer".into());
        }
    }
    let beside =
        format!("tokio's broadcast channel, which settles nothing: {:.0} ns", median(&channel));
    Ok(vec![
        Target::at_most("bus, one subscriber: ns an event", median(&ours), 300.0).note(beside),
        Target::at_most("bus, one subscriber: allocations an event", allocated, 1.0)
            .note("its message is made before. Lists of a batch of 64 are counted"),
        Target::at_most("dispatch: ns a request", median(&calls), 25.0),
        Target::at_most("dispatch: allocations a request", boxed, 1.0),
    ])
}
