//! The time of a request through `dispatch`, beside the same service without it.

use std::future::{Ready, poll_fn, ready};
use std::hint::black_box;
use std::time::Instant;

use buttress_durable::dispatch::{Dispatch, NoHandler, Request};
use tower::{Service, service_fn};

use super::{DISPATCH, finding, nanos, one_thread, time};
use crate::patterns::{BARE, BUTTRESS};
use crate::spread::median;

const CALLS: u64 = 200_000;
const ROUNDS: usize = 21;

struct Ask(u64);

impl Request for Ask {
    type Response = u64;
    type Error = NoHandler;
}

fn answer(ask: Ask) -> Ready<Result<u64, NoHandler>> {
    ready(Ok(black_box(ask.0)))
}

fn per_call(began: Instant) -> f64 {
    nanos(began.elapsed()) / CALLS as f64
}

/// A clone per call, as the dispatch makes one.
async fn plain() -> f64 {
    let service = service_fn(answer);
    let began = Instant::now();
    for number in 0..CALLS {
        let mut service = service;
        poll_fn(|cx| service.poll_ready(cx)).await.expect("ready");
        black_box(service.call(Ask(number)).await.expect("an answer"));
    }
    per_call(began)
}

async fn dispatched(bus: &Dispatch) -> f64 {
    let began = Instant::now();
    for number in 0..CALLS {
        black_box(bus.send(Ask(number)).await.expect("an answer"));
    }
    per_call(began)
}

pub fn run() {
    let bus = Dispatch::builder().on::<Ask, _>(service_fn(answer)).expect("one handler");
    let bus = bus.build().expect("complete");
    let runtime = one_thread();
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(runtime.block_on(plain()));
        ours.push(runtime.block_on(dispatched(&bus)));
    }
    for (candidate, rounds) in [(BARE, bare), (BUTTRESS, ours)] {
        let taken = median(rounds).expect("rounds");
        finding(DISPATCH, candidate, taken, &time(taken));
    }
}
