//! The contract of every layer, for idempotency over a store that answers immediately, over a slow
//! store, and with detached handlers.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use buttress::idempotency::{
    Claim, Config, Handle, IdempotencyLayer, Key, MemoryStore, MemoryTransaction, WithClaim,
};
use buttress::{Event, Name};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service, service_fn};

use super::faulty::{Faulty, Plan};
use super::{Ask, ByAsk, Runs, Scripted, Step, begin, by_ask, call, config, layer};
use crate::support::bombs::armed;
use crate::support::{AppError, Once, Waiter, behind, is_pending, ms, now, panic_of, soon};

/// The three forms, and their names.
fn forms() -> [(&'static str, Runs); 3] {
    let slow = Faulty::default();
    // A slow store, as if every claim crossed a network.
    for _ in 0..100 {
        slow.then("claim", Plan::Slow(1));
    }
    let waited_for = IdempotencyLayer::new(config(), slow, by_ask as ByAsk).unwrap();
    [
        ("immediate", Runs::new(layer(config()), false)),
        ("waited for", Runs::new(waited_for, false)),
        ("detached", Runs::new(layer(config()), true)),
    ]
}

/// The scripted service panics when it is called without being polled ready.
#[tokio::test(start_paused = true)]
async fn only_values_that_were_polled_ready_are_called() {
    for (form, layer) in forms() {
        let (mut service, log) = behind(&layer, [Step::FailAfter(5), Step::FailAfter(5)]);
        let calls: Vec<_> = (0..4).map(|_| tokio::spawn(begin(&mut service, Ask(7)))).collect();
        for call in calls {
            let _either = soon(call).await.expect(form);
        }
        assert_eq!(log.calls(), 3, "{form}");
        assert_eq!(soon(call(&mut service, Ask(8))).await.unwrap(), 4, "{form}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pending_inner_service_is_waited_for() {
    for (form, layer) in forms() {
        let (mut service, log) = behind(&layer, []);
        log.block();
        let waiter = Waiter::new();
        assert!(waiter.poll_ready(&mut service).is_pending());
        log.unblock();
        assert_eq!(waiter.wakes(), 1, "{form}");
        assert_eq!(soon(call(&mut service, Ask(7))).await.unwrap(), 1);
        log.fail_ready();
        assert_eq!(soon(call(&mut service, Ask(8))).await, Err(AppError::Broken("not ready")));
    }
}

/// A call that takes over waits for its own service, and renews its claim meanwhile.
#[tokio::test(start_paused = true)]
async fn whoever_takes_over_waits_until_its_service_is_ready() {
    let layer = layer(config().lease(ms(300)));
    let (mut service, log) = behind(&layer, [Step::Held, Step::Answer]);
    let mut first = begin(&mut service, Ask(7));
    let second = begin(&mut service, Ask(7));
    assert!(is_pending(&mut first));
    let second = tokio::spawn(second);
    tokio::task::yield_now().await;
    log.block();
    drop(first);
    buttress::Clock::default().sleep(ms(1000)).await;
    assert_eq!(log.calls(), 1);
    let stats = layer.handle().stats();
    assert_eq!((stats.taken_over, stats.store.unwrap().in_flight), (1, 1));
    log.unblock();
    assert_eq!(soon(second).await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_before_it_takes_over_frees_the_key() {
    let layer = layer(config());
    let (mut service, log) = behind(&layer, [Step::Held, Step::Answer]);
    let mut calls: Vec<_> = (0..3).map(|_| begin(&mut service, Ask(7))).collect();
    assert!(calls.iter_mut().all(is_pending));
    log.fail_ready();
    drop(calls.remove(0));
    assert_eq!(now(calls.remove(0)), Err(AppError::Broken("not ready")));
    assert_eq!(now(calls.remove(0)).unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn everything_is_given_back_when_a_call_is_dropped_after_any_poll() {
    for (form, layer) in forms() {
        let (mut service, log) = behind(&layer, []);
        log.always(Step::Never);
        for polls in 0..4 {
            let mut first = begin(&mut service, Ask(polls));
            for _ in 0..polls {
                assert!(is_pending(&mut first));
                tokio::time::advance(ms(1)).await;
            }
            let waits = (polls > 0).then(|| begin(&mut service, Ask(polls)));
            drop(first);
            drop(waits);
            tokio::task::yield_now().await;
        }
        let stats = layer.handle().stats();
        assert_eq!(stats.waiting, 0, "{form}");
        if form != "detached" {
            assert_eq!((stats.in_flight, log.live()), (0, 0), "{form}");
        }
    }
}

/// The future of the call is kept, as in a program that catches the panic of an observer.
#[tokio::test(start_paused = true)]
async fn a_panic_before_the_handler_returns_the_readiness_of_the_service() {
    let config = config().refuse_in_flight(true).observer(|_: Name, event: &Event| {
        assert!(!matches!(event, Event::Refused { .. }), "the observer's own");
    });
    let layer = IdempotencyLayer::new(config, Faulty::default(), by_ask).unwrap();
    let (inner, log) = Scripted::new();
    log.always(Step::Never);
    let mut service = layer.layer(ConcurrencyLimit::new(inner, 2));
    let mut first = begin(&mut service, Ask(7));
    assert!(is_pending(&mut first));
    // The store is asked over a wire, so the call takes the service along that was polled ready.
    let mut second = begin(&mut service, Ask(7));
    let waiter = Waiter::new();
    assert!(waiter.poll_ready(&mut service).is_pending());
    assert_eq!(panic_of(|| is_pending(&mut second)), "the observer's own");
    assert!(waiter.poll_ready(&mut service).is_ready());
}

#[tokio::test(start_paused = true)]
async fn everything_is_given_back_when_something_inside_panics() {
    for (form, layer) in forms() {
        let (inner, log) = Scripted::new();
        let mut service = layer.layer(inner.clone());
        for step in [Step::PanicInCall, Step::PanicAtPoll(1), Step::PanicAtPoll(2)] {
            log.then([step]);
            let panicking = tokio::spawn(async move {
                let ended = call(&mut service, Ask(7)).await;
                drop(ended);
            });
            // A call that hangs until its second poll needs a wake.
            for _ in 0..10 {
                tokio::time::advance(ms(1)).await;
                log.unblock();
            }
            let panic = soon(panicking).await.unwrap_err().into_panic();
            let said = panic_of(|| std::panic::resume_unwind(panic));
            assert!(said.starts_with("scripted panic"), "{form}: {said}");
            service = layer.layer(inner.clone());
        }
        let stats = layer.handle().stats();
        assert_eq!((stats.in_flight, stats.detached, log.live()), (0, 0, 0), "{form}");
        assert!(soon(call(&mut service, Ask(7))).await.is_ok(), "{form}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_woken_without_a_cause() {
    let (mut service, log) = behind(&layer(config()), []);
    log.always(Step::Held);
    let mut calls: Vec<_> = (0..3).map(|_| begin(&mut service, Ask(7))).collect();
    let waiters: Vec<_> = calls.iter().map(|_| Waiter::new()).collect();
    for (waiter, call) in waiters.iter().zip(&mut calls) {
        assert!(waiter.poll(call).is_pending());
    }
    tokio::time::advance(ms(9_999)).await;
    assert!(waiters.iter().all(|waiter| waiter.wakes() == 0));
    // A third of the lease: only the call that owns the key is woken, to renew the claim.
    tokio::time::advance(ms(1)).await;
    let wakes: Vec<_> = waiters.iter().map(Waiter::wakes).collect();
    assert_eq!(wakes, [1, 0, 0]);
}

/// Polls only futures that were woken, so that a missing wake shows.
#[tokio::test(start_paused = true)]
async fn every_waiter_gets_there_by_wakes_alone() {
    let (mut service, log) = behind(&layer(config()), [Step::Held, Step::Held, Step::Answer]);
    let mut calls: Vec<_> =
        (0..5).map(|_| Some((Waiter::new(), begin(&mut service, Ask(7))))).collect();
    let mut answers = Vec::new();
    for (waiter, call) in calls.iter_mut().flatten() {
        assert!(waiter.poll(call).is_pending());
    }
    calls[0] = None;
    for _ in 0..10 {
        for place in &mut calls {
            let Some((waiter, call)) = place else { continue };
            if waiter.wakes() == 0 {
                continue;
            }
            if let std::task::Poll::Ready(answer) = waiter.poll(call) {
                answers.push(answer.unwrap());
                *place = None;
            }
        }
        log.open();
    }
    assert_eq!(answers, [2, 2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn requests_that_cannot_be_copied_pass_and_wait() {
    let key = |_: &Once| Key::new("k");
    let layer = IdempotencyLayer::new(config(), MemoryStore::default(), key).unwrap();
    let (inner, log) = Scripted::<AppError, Once>::of();
    log.then([Step::FailAfter(1), Step::Answer]);
    let mut service = layer.layer(inner);
    let (first, second) = (begin(&mut service, Once), begin(&mut service, Once));
    let (first, second) = tokio::join!(first, second);
    assert!(first.is_err());
    assert_eq!(second.unwrap(), 2);
}

fn shared<T: Clone + Debug + Send + Sync + 'static>() {}

fn sent<T: Debug + Send + 'static>() {}

#[test]
fn everything_can_be_sent_shared_copied_and_printed() {
    shared::<super::Layered>();
    shared::<super::Served>();
    shared::<Handle>();
    shared::<Config>();
    shared::<MemoryStore<u32>>();
    sent::<<super::Served as Service<Ask>>::Future>();
    sent::<Claim<MemoryStore<u32>, u32>>();
    sent::<WithClaim<Ask, MemoryStore<u32>, u32>>();
    sent::<MemoryTransaction<u32>>();
    fn same<T: Future<Output = Result<u32, AppError>>>() {}
    same::<<super::Served as Service<Ask>>::Future>();
}

#[tokio::test(start_paused = true)]
async fn debug_texts_name_the_parts() {
    let layer = layer(config().name("pay"));
    let mut service = layer.layer(Scripted::new().0);
    let text = format!("{layer:?} {service:?} {:?}", layer.handle());
    assert!(text.contains("IdempotencyLayer") && text.contains("\"pay\""), "{text}");
    assert!(text.contains("Idempotency {") && text.contains("Scripted"), "{text}");
    assert!(text.contains("Stats"), "{text}");
    let running = begin(&mut service, Ask(7));
    assert!(format!("{running:?}").contains("running"));
    let waiting = begin(&mut service, Ask(7));
    assert!(format!("{waiting:?}").contains("waiting"));
}

/// The panic of the drop once lost the answer, and the handler ran again.
#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_when_it_is_dropped_is_not_run_again() {
    let layer = layer(config());
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let handler = service_fn(move |ask: Ask| {
        counted.fetch_add(1, Ordering::SeqCst);
        armed(async move { Ok::<u32, AppError>(ask.0) })
    });
    let mut service = layer.layer(handler);
    for _ in 0..2 {
        assert_eq!(now(begin(&mut service, Ask(7))), Ok(7));
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1, "then replayed");
}
