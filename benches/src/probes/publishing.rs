//! The time of a message through the bus to one subscriber that settles it, beside tokio's broadcast channel, which has
//! no settling, no keys and no redelivery.

use std::hint::black_box;
use std::time::{Duration, Instant};

use buttress_durable::bus::{Bus, Pattern, Subscribe};
use buttress_durable::consume::{Settle, Source};
use buttress_durable::outbox::{Message, MessageId, NewMessage};
use tokio::sync::broadcast;

use super::{BUS, finding, nanos, one_thread, time};
use crate::patterns::BUTTRESS;
use crate::peers::TOKIO;
use crate::spread::median;

const MESSAGES: usize = 50_000;
/// How many messages are published before the subscriber receives them.
const BATCH: usize = 64;
const ROUNDS: usize = 21;

/// The messages of a round, made before its time begins.
fn messages() -> Vec<Message> {
    let message = |number: usize| {
        let id = MessageId::new(number as u128);
        let new = NewMessage::new(id, format!("order-{}", number % 50), vec![7; 200]);
        Message::new(new.topic("order.paid"), 0, 0, Duration::ZERO)
    };
    (0..MESSAGES).map(message).collect()
}

fn per_message(began: Instant) -> f64 {
    nanos(began.elapsed()) / MESSAGES as f64
}

async fn ours() -> f64 {
    let bus = Bus::new();
    let member = bus.subscribe("billing", Subscribe::new(Pattern::all())).expect("valid");
    let mut messages = messages().into_iter();
    let began = Instant::now();
    loop {
        let some = messages.by_ref().take(BATCH);
        let mut published = 0;
        for message in some {
            bus.publish(message).await.expect("a queue with room");
            published += 1;
        }
        if published == 0 {
            return per_message(began);
        }
        member.want(BATCH);
        let batch = member.receive().await.expect("messages");
        let done: Vec<_> =
            batch.messages.iter().map(|received| (received.token, Settle::Done)).collect();
        black_box(&batch.messages);
        member.settle(&done).await.expect("settled");
    }
}

async fn broadcast() -> f64 {
    let (sender, mut receiver) = broadcast::channel(BATCH);
    let mut messages = messages().into_iter();
    let began = Instant::now();
    loop {
        let mut published = 0;
        for message in messages.by_ref().take(BATCH) {
            sender.send(message).expect("a receiver");
            published += 1;
        }
        if published == 0 {
            return per_message(began);
        }
        for _ in 0..published {
            black_box(receiver.recv().await.expect("a message"));
        }
    }
}

pub fn run() {
    let runtime = one_thread();
    let (mut bus, mut channel) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bus.push(runtime.block_on(ours()));
        channel.push(runtime.block_on(broadcast()));
    }
    for (candidate, rounds) in [(BUTTRESS, bus), (TOKIO, channel)] {
        let taken = median(rounds).expect("rounds");
        finding(BUS, candidate, taken, &time(taken));
    }
}
