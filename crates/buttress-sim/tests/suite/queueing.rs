//! Comparison with the formulas of queueing theory, at three time scales. tokio's paused clock
//! would round every deadline up to a millisecond, too coarse for a service of 50 microseconds.

use buttress::bulkhead::{BulkheadLayer, Config};
use buttress_sim::{Cause, Distribution, Load, Queue, Scenario, Server};
use tower::{Layer, ServiceExt};

use crate::support::{
    BATCHES, Estimate, Run, SCALES, batches, erlang_b, erlang_c, mean_latency, quantile,
};

#[test]
fn one_server_with_random_work_is_m_m_1() {
    for mean in SCALES {
        let run = Run { mean, servers: 1, busy: 0.7, requests: 50_000.0 };
        let outcome = run.alone(run.server());
        // The time in the system is exponential.
        let theory = mean.as_secs_f64() / (1.0 - 0.7);
        mean_latency(&outcome).agrees_with(theory, 0.05, &format!("mean at {mean:?}"));
        let median = quantile(&outcome, 0.5);
        median.agrees_with(theory * 2f64.ln(), 0.05, &format!("p50 at {mean:?}"));
        let p99 = quantile(&outcome, 0.99);
        // A percentile of a batch is biased by its length; the batches are long enough for the error to cover it.
        p99.agrees_with(theory * 100f64.ln(), 0.08, &format!("p99 at {mean:?}"));
    }
}

#[test]
fn several_servers_are_m_m_c() {
    for mean in SCALES {
        let run = Run { mean, servers: 5, busy: 0.8, requests: 50_000.0 };
        let outcome = run.alone(run.server());
        let waits = erlang_c(5, 4.0) * mean.as_secs_f64() / (5.0 - 4.0);
        let what = format!("mean at {mean:?}");
        mean_latency(&outcome).agrees_with(mean.as_secs_f64() + waits, 0.05, &what);
        let busy = batches(&outcome)
            .iter()
            .map(|w| w.stations[0].busy.as_secs_f64() / w.length.as_secs_f64());
        Estimate::of(busy).agrees_with(4.0, 0.01, "busy servers");
    }
}

#[test]
fn constant_work_is_m_d_1() {
    for mean in SCALES {
        let run = Run { mean, servers: 1, busy: 0.8, requests: 50_000.0 };
        let outcome = run.alone(Server::new("station", Distribution::constant(mean)));
        // Half the wait of M/M/1 (Pollaczek and Khinchine).
        let theory = mean.as_secs_f64() * (1.0 + 0.8 / (2.0 * (1.0 - 0.8)));
        mean_latency(&outcome).agrees_with(theory, 0.05, &format!("mean at {mean:?}"));
    }
}

#[test]
fn a_bulkhead_without_a_queue_loses_what_erlang_b_says_whatever_the_work() {
    for mean in SCALES {
        for work in [Distribution::exponential(mean), Distribution::constant(mean)] {
            let run = Run { mean, servers: 10, busy: 0.8, requests: 30_000.0 };
            let outcome = run
                .scenario()
                .run(|world| {
                    let server = Server::new("station", work.clone()).servers(u32::MAX);
                    let config = Config::new().max_concurrent(10).clock(world.clock());
                    Ok(BulkheadLayer::new(config)?.layer(world.server(server)?))
                })
                .unwrap();
            let lost =
                batches(&outcome).iter().map(|w| w.ends.of(Cause::Full) as f64 / w.offered as f64);
            let what = format!("lost at {mean:?} with {work:?}");
            Estimate::of(lost).agrees_with(erlang_b(10, 8.0), 0.05, &what);
            let ends = outcome.ends();
            assert_eq!(
                ends.of(Cause::Full) + ends.of(Cause::Ok) + ends.of(Cause::Abandoned),
                ends.all()
            );
        }
    }
}

#[test]
fn a_bounded_queue_turns_away_what_m_m_1_k_says() {
    let run = Run { mean: SCALES[1], servers: 1, busy: 0.9, requests: 30_000.0 };
    let outcome = run.alone(run.server().queue(Queue::fifo().bound(4)));
    // At most five in the system.
    let theory = (1.0 - 0.9) * 0.9f64.powi(5) / (1.0 - 0.9f64.powi(6));
    let lost = batches(&outcome).iter().map(|w| w.ends.of(Cause::Error) as f64 / w.offered as f64);
    Estimate::of(lost).agrees_with(theory, 0.05, "rejected");
}

#[test]
fn the_order_of_service_changes_the_tail_and_not_the_mean() {
    let run = Run { mean: SCALES[1], servers: 1, busy: 0.7, requests: 40_000.0 };
    let [fifo, lifo] =
        [Queue::fifo(), Queue::lifo()].map(|queue| run.alone(run.server().queue(queue)));
    mean_latency(&lifo).agrees_with(SCALES[1].as_secs_f64() / 0.3, 0.06, "mean of LIFO");
    assert!(lifo.latency().quantile(0.99) > fifo.latency().quantile(0.99) * 3 / 2);
    assert!(lifo.latency().quantile(0.5) < fifo.latency().quantile(0.5));
}

#[test]
fn littles_law_holds_at_every_station() {
    for mean in SCALES {
        // Two stations in sequence, and a station that some requests visit twice.
        let run = Run { mean, servers: 1, busy: 0.6, requests: 30_000.0 };
        let outcome = run.scenario().run(|world| {
            let front = world.server(run.server())?;
            let work = Distribution::log_normal(mean, 8 * mean)?;
            let back = world.server(Server::new("back", work).servers(3))?;
            Ok(tower::service_fn(move |request: buttress_sim::Request| {
                let (front, back) = (front.clone(), back.clone());
                async move {
                    let served = back.clone().oneshot(request).await?;
                    if request.id.is_multiple_of(4) {
                        back.oneshot(request).await?;
                    }
                    front.oneshot(request).await.map(|_| served)
                }
            }))
        });
        let outcome = outcome.unwrap();
        for (name, stats) in outcome.stations() {
            let arrived = stats.arrived as f64 / stats.over.as_secs_f64();
            let product = arrived * stats.mean_sojourn().as_secs_f64();
            let present = stats.mean_present();
            // Approximate: jobs are in flight at the beginning and end of the count.
            assert!((product / present - 1.0).abs() < 0.002, "{name}: {product} {present}");
            assert!(stats.arrived > 20_000, "{name}: {}", stats.arrived);
        }
        assert!(outcome.station("back").unwrap().arrived > outcome.requests() * 6 / 5);
    }
}

#[test]
fn a_closed_loop_obeys_the_response_time_law() {
    for mean in SCALES {
        // R = N / X - Z, for every distribution.
        let (clients, think) = (20u32, 10 * mean);
        let batch = think * 120;
        let outcome = Scenario::new("closed", batch * BATCHES)
            .load(Load::closed(clients, Distribution::exponential(think)))
            .window(batch)
            .warm_up(batch)
            .run(|world| world.server(Server::new("station", Distribution::exponential(mean))))
            .unwrap();
        let throughput =
            |w: &buttress_sim::Window| w.ends.of(Cause::Ok) as f64 / w.length.as_secs_f64();
        let law = batches(&outcome).iter().map(|w| {
            w.latency.mean().as_secs_f64()
                - (f64::from(clients) / throughput(w) - think.as_secs_f64())
        });
        let difference = Estimate::of(law);
        let mean_response = mean_latency(&outcome).value;
        assert!(difference.value.abs() < 4.0 * difference.error, "{difference:?} at {mean:?}");
        assert!(difference.error < 0.08 * mean_response, "{difference:?} is too vague at {mean:?}");
        // The machine repair model: the share of time that the server is idle.
        let x = throughput_of_repair_model(clients, mean.as_secs_f64(), think.as_secs_f64());
        let rate = Estimate::of(batches(&outcome).iter().map(throughput));
        rate.agrees_with(x, 0.02, &format!("throughput at {mean:?}"));
    }
}

/// Returns the throughput of one exponential server with `clients` who think: mean value analysis.
fn throughput_of_repair_model(clients: u32, work: f64, think: f64) -> f64 {
    let (mut present, mut throughput) = (0.0, 0.0);
    for n in 1..=clients {
        let response = work * (1.0 + present);
        throughput = f64::from(n) / (think + response);
        present = throughput * response;
    }
    throughput
}
