//! The simulation in turmoil: a client and a server, with a simulated network without delay between
//! them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use buttress_sim::{Distribution, Histogram, Seed};
use tokio::time::{Instant, sleep, sleep_until};
use turmoil::net::UdpSocket;

use crate::{Done, RATE, WORK};

const PORT: u16 = 9000;

/// Runs the simulation. A datagram holds the nanosecond at which its request began.
pub(crate) fn run(requests: u64) -> Done {
    let mut sim = turmoil::Builder::new()
        .simulation_duration(Duration::from_secs_f64(requests as f64 / RATE * 2.0 + 60.0))
        .min_message_latency(Duration::ZERO)
        .max_message_latency(Duration::ZERO)
        .udp_capacity(1_000_000)
        .build();
    sim.host("server", serve);
    let times = Rc::new(RefCell::new(Histogram::new()));
    sim.client("client", ask(requests, times.clone()));
    if let Err(error) = sim.run() {
        unreachable!("{error}");
    }
    let times = times.borrow();
    (times.count(), times.mean())
}

/// Answers one request at a time with its own content.
async fn serve() -> turmoil::Result {
    let socket = Arc::new(UdpSocket::bind(("0.0.0.0", PORT)).await?);
    let server = Arc::new(tokio::sync::Semaphore::new(1));
    let chance = Seed::new(0).named("work");
    let mut datagram = [0; 8];
    loop {
        let (_, from) = socket.recv_from(&mut datagram).await?;
        let (socket, server) = (socket.clone(), server.clone());
        let work = Distribution::exponential(WORK).draw(&chance);
        tokio::spawn(async move {
            let permit = server.acquire().await;
            sleep(work).await;
            drop(permit);
            let _ = socket.send_to(&datagram, from).await;
        });
    }
}

async fn ask(requests: u64, times: Rc<RefCell<Histogram>>) -> turmoil::Result {
    let socket = Arc::new(UdpSocket::bind(("0.0.0.0", PORT)).await?);
    let begun = Instant::now();
    let sender = socket.clone();
    tokio::spawn(async move {
        let chance = Seed::new(0).named("arrivals");
        let gap = Distribution::exponential(Duration::from_secs_f64(1.0 / RATE));
        let mut next = begun;
        for _ in 0..requests {
            next += gap.draw(&chance);
            sleep_until(next).await;
            let at = (begun.elapsed().as_nanos() as u64).to_be_bytes();
            let _ = sender.send_to(&at, ("server", PORT)).await;
        }
    });
    let mut datagram = [0; 8];
    for _ in 0..requests {
        socket.recv_from(&mut datagram).await?;
        let at = Duration::from_nanos(u64::from_be_bytes(datagram));
        times.borrow_mut().record(begun.elapsed().saturating_sub(at));
    }
    Ok(())
}
