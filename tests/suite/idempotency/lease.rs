//! The claim of a running call: renewed, fenced, released.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use buttress::idempotency::{Config, Leave, LostClaim, MemoryStore};
use buttress::{Clock, ErrorKind};
use tower::Layer;

use super::{Ask, Calling, Layered, Scripted, Served, Step, begin, call, config, layer, over};
use crate::support::{AppError, Log, Watch, behind, is_pending, ms, now, panic_of, soon};

/// Refuses calls whose key is in flight, so that a test sees whether a key is free.
fn refusing() -> Config {
    config().refuse_in_flight(true)
}

fn in_flight(layer: &Layered) -> usize {
    layer.handle().stats().store.unwrap().in_flight
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_renewed_every_third_of_its_lease_while_its_handler_runs() {
    let layer = layer(refusing().lease(ms(900)));
    let (mut service, log) = behind(&layer, [Step::AnswerAfter(10_000)]);
    let running = tokio::spawn(begin(&mut service, Ask(7)));
    let watch = Watch::start();
    for (at, left) in [(1, 899), (299, 601), (301, 899), (599, 601), (601, 899), (9_999, 801)] {
        // The clock moves in steps, and stops at every renewal.
        Clock::default().sleep(ms(at - watch.ms())).await;
        let error = now(begin(&mut service, Ask(7))).unwrap_err();
        assert_eq!(error.refusal().retry_after(), Some(ms(left)), "at {at}");
    }
    assert_eq!(soon(running).await.unwrap().unwrap(), 1);
    assert_eq!(log.calls(), 1);
}

/// The lease expires exactly at its end.
#[tokio::test(start_paused = true)]
async fn a_claim_that_is_not_renewed_holds_until_its_lease_ends() {
    let (mut service, _) = behind(&layer(refusing().lease(ms(900))), [Step::Held, Step::Answer]);
    let mut stalled = begin(&mut service, Ask(7));
    assert!(is_pending(&mut stalled));
    tokio::time::advance(ms(899)).await;
    let error = now(begin(&mut service, Ask(7))).unwrap_err();
    assert_eq!(error.refusal().retry_after(), Some(ms(1)));
    tokio::time::advance(ms(1)).await;
    assert_eq!(now(begin(&mut service, Ask(7))).unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_lease_ran_out_but_that_nobody_took_is_kept() {
    let layer = layer(config().lease(ms(900)));
    let (mut service, _) = behind(&layer, [Step::AnswerAfter(2000)]);
    let mut first = begin(&mut service, Ask(7));
    assert!(is_pending(&mut first));
    // The process was frozen.
    tokio::time::advance(ms(1999)).await;
    assert!(is_pending(&mut first));
    assert_eq!(soon(first).await.unwrap(), 1);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    assert_eq!(layer.handle().stats().fenced, 0);
}

/// Two layers over one store are two processes.
fn two(config: impl Fn() -> Config) -> (Layered, Layered) {
    let store = MemoryStore::default();
    (over(config(), store.clone()), over(config(), store))
}

/// A call of `here` that stands still until its lease of 900 ms is over and `elsewhere` has answered.
async fn overtaken(here: &Layered, elsewhere: &Layered) -> (Served, Calling, Log) {
    let (inner, log) = Scripted::new();
    log.then([Step::Held, Step::Answer]);
    let mut service = here.layer(inner.clone());
    let mut paused = begin(&mut service, Ask(7));
    assert!(is_pending(&mut paused));
    tokio::time::advance(ms(900)).await;
    assert_eq!(call(&mut elsewhere.layer(inner), Ask(7)).await.unwrap(), 2);
    (service, paused, log)
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_wakes_up_after_a_take_over_is_stopped_by_its_next_renewal() {
    let (here, elsewhere) = two(|| config().lease(ms(900)));
    let (mut service, paused, log) = overtaken(&here, &elsewhere).await;
    let error = soon(paused).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::ClaimLost));
    assert!(!error.refusal().never_reached_service());
    assert_eq!(
        error.to_string(),
        "idempotency: the key was taken over while its handler ran; send the request again with it"
    );
    assert_eq!(log.live(), 0, "the handler was dropped");
    // A later call gets the one answer.
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 2);
    let stats = here.handle().stats();
    assert_eq!((stats.fenced, stats.in_flight, stats.failed), (1, 0, 0));
}

/// A handler that makes one more call when it wakes. The other handler would repeat each of its
/// effects.
#[tokio::test(start_paused = true)]
async fn a_handler_that_wakes_up_after_a_take_over_does_nothing_more() {
    for policy in [LostClaim::Refuse, LostClaim::Answer] {
        let (here, elsewhere) = two(|| config().lease(ms(900)).lost_claim(policy));
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let handler = tower::service_fn(move |_: Ask| {
            let calls = counted.clone();
            async move {
                Clock::default().sleep(ms(100)).await;
                calls.fetch_add(1, Ordering::SeqCst);
                Ok::<u32, AppError>(1)
            }
        });
        let mut service = here.layer(handler);
        let mut paused = begin(&mut service, Ask(7));
        assert!(is_pending(&mut paused));
        // The process freezes; another worker takes the key over, and completes it.
        tokio::time::advance(ms(900)).await;
        let (inner, log) = Scripted::new();
        log.then([Step::Answer]);
        assert_eq!(call(&mut elsewhere.layer(inner), Ask(7)).await.unwrap(), 1);
        let answer = now(paused);
        match policy {
            LostClaim::Answer => {
                assert_eq!((answer.unwrap(), calls.load(Ordering::SeqCst)), (1, 1));
            }
            _ => {
                assert_eq!(answer.unwrap_err().kind(), Some(ErrorKind::ClaimLost));
                assert_eq!(calls.load(Ordering::SeqCst), 0);
            }
        }
    }
}

/// No other worker took the key: the handler continues when its claim is confirmed.
#[tokio::test(start_paused = true)]
async fn a_handler_whose_lease_ran_out_and_that_nobody_took_over_goes_on() {
    let (here, _) = two(|| config().lease(ms(900)));
    let (inner, log) = Scripted::new();
    log.then([Step::AnswerAfter(2000)]);
    let mut paused = begin(&mut here.layer(inner), Ask(7));
    assert!(is_pending(&mut paused));
    tokio::time::advance(ms(2000)).await;
    assert_eq!(now(paused).unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_answers_after_a_take_over_is_fenced() {
    for policy in [LostClaim::Refuse, LostClaim::Answer] {
        let (here, elsewhere) = two(|| config().lease(ms(900)).lost_claim(policy));
        let (mut service, paused, log) = overtaken(&here, &elsewhere).await;
        // It answers immediately when it is polled, before it renews.
        log.open();
        let answer = now(paused);
        match policy {
            LostClaim::Answer => assert_eq!(answer.unwrap(), 1),
            _ => assert_eq!(answer.unwrap_err().kind(), Some(ErrorKind::ClaimLost)),
        }
        assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 2, "the late one changed nothing");
        assert_eq!(here.handle().stats().fenced, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_claim_may_run_on_to_its_own_answer() {
    let (here, elsewhere) = two(|| config().lease(ms(900)).lost_claim(LostClaim::Answer));
    let (inner, log) = Scripted::new();
    log.then([Step::AnswerAfter(5000), Step::Answer]);
    let mut service = here.layer(inner.clone());
    let mut paused = begin(&mut service, Ask(7));
    assert!(is_pending(&mut paused));
    tokio::time::advance(ms(900)).await;
    assert_eq!(call(&mut elsewhere.layer(inner), Ask(7)).await.unwrap(), 2);
    assert_eq!(soon(paused).await.unwrap(), 1);
    let stats = here.handle().stats();
    assert_eq!((stats.fenced, stats.in_flight), (1, 0), "counted once");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_frees_its_key_at_once() {
    let layer = layer(refusing());
    let (mut service, log) = behind(&layer, [Step::Held, Step::Answer]);
    let mut first = begin(&mut service, Ask(7));
    assert!(is_pending(&mut first));
    assert_eq!(in_flight(&layer), 1);
    drop(first);
    assert_eq!((in_flight(&layer), log.live()), (0, 0));
    assert_eq!(now(begin(&mut service, Ask(7))).unwrap(), 2);
    let stats = layer.handle().stats();
    assert_eq!((stats.failed, stats.in_flight), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_never_polled_frees_its_key_too() {
    let layer = layer(refusing());
    let mut service = layer.layer(Scripted::new().0);
    drop(begin(&mut service, Ask(7)));
    assert_eq!(in_flight(&layer), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_frees_the_key_on_the_spot() {
    for step in [Step::PanicInCall, Step::PanicAtPoll(1), Step::PanicAtPoll(2)] {
        let layer = layer(refusing());
        let (mut service, _) = behind(&layer, [step, Step::Answer]);
        let mut kept = None;
        let said = panic_of(|| {
            let call = kept.insert(begin(&mut service, Ask(7)));
            while is_pending(call) {}
        });
        assert!(said.starts_with("scripted panic"), "{said}");
        // The future is still alive, as after a caught panic.
        assert_eq!(in_flight(&layer), 0, "{step:?}");
        drop(kept);
        assert_eq!(now(begin(&mut service, Ask(7))).unwrap(), 2);
        let stats = layer.handle().stats();
        assert_eq!((stats.failed, stats.in_flight), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_the_answer_is_kept_frees_the_key() {
    let layer = layer(refusing()).keep_if(|_: &u32| panic!("no opinion"));
    let mut service = layer.layer(Scripted::new().0);
    assert_eq!(panic_of(|| now(begin(&mut service, Ask(7)))), "no opinion");
    assert_eq!(layer.handle().stats().store.unwrap().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_may_stay_claimed_until_the_lease_ends() {
    let lease = || refusing().lease(ms(900));
    let cases: [(Config, Step); 3] = [
        (lease().failed_calls(Leave::UntilLeaseEnds), Step::Fail),
        (lease().abandoned_calls(Leave::UntilLeaseEnds), Step::Held),
        (lease().abandoned_calls(Leave::UntilLeaseEnds), Step::PanicAtPoll(1)),
    ];
    for (config, step) in cases {
        let layer = layer(config);
        let (mut service, _) = behind(&layer, [step]);
        let mut first = begin(&mut service, Ask(7));
        match step {
            Step::Fail => assert_eq!(now(first), Err(AppError::Broken("scripted failure"))),
            Step::Held => {
                assert!(is_pending(&mut first));
                drop(first);
            }
            _ => drop(panic_of(|| is_pending(&mut first))),
        }
        tokio::time::advance(ms(899)).await;
        let error = now(begin(&mut service, Ask(7))).unwrap_err();
        assert_eq!(error.refusal().retry_after(), Some(ms(1)), "{step:?}");
        tokio::time::advance(ms(1)).await;
        assert_eq!(now(begin(&mut service, Ask(7))).unwrap(), 2, "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_key_that_stays_claimed_gets_it_when_the_lease_ends() {
    let config = config().lease(ms(950)).failed_calls(Leave::UntilLeaseEnds);
    let (mut service, log) = behind(&layer(config), [Step::FailAfter(50), Step::Answer]);
    let watch = Watch::start();
    let (first, second) = tokio::join!(begin(&mut service, Ask(7)), begin(&mut service, Ask(7)));
    assert!(first.is_err());
    assert_eq!((second.unwrap(), watch.ms(), log.at()), (2, 950, vec![0, 950]));
}
