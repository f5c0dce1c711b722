//! Stores whose answers come late, and renewals that fail.

use buttress::idempotency::StoreFailure;
use buttress::{Clock, ErrorKind, StoreErrorKind};
use tower::Layer;

use super::faulty::{Faulty, Plan};
use super::stores::{TRANSIENT, over};
use super::{Ask, Scripted, Step, begin, call, config};
use crate::support::{Watch, behind, is_pending, ms, soon};

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_tried_again_before_the_lease_ends() {
    let store = Faulty::default();
    store.then("renew", TRANSIENT).then("renew", TRANSIENT).then("renew", Plan::Slow(10));
    let layer = over(config().lease(ms(900)), &store);
    let (mut service, _) = behind(&layer, [Step::AnswerAfter(2000)]);
    let running = tokio::spawn(begin(&mut service, Ask(7)));
    let watch = Watch::start();
    // At 300, 400 and 500 ms, then every 300 ms again, counted from the request.
    for (at, renewals) in [(299, 0), (301, 1), (401, 2), (501, 3), (799, 3), (801, 4)] {
        Clock::default().sleep(ms(at - watch.ms())).await;
        assert_eq!(store.count("renew"), renewals, "at {at}");
    }
    assert_eq!(soon(running).await.unwrap().unwrap(), 1);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_fenced_stops_the_handler() {
    let store = Faulty::default();
    store.then("renew", Plan::Fails(StoreErrorKind::Fenced));
    let (mut service, log) = behind(&over(config().lease(ms(900)), &store), [Step::Held]);
    let watch = Watch::start();
    let error = soon(begin(&mut service, Ask(7))).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::ClaimLost));
    assert_eq!((watch.ms(), log.live(), store.count("release")), (300, 0, 0));
}

/// The process was frozen for longer than the lease. The store decides whether the handler
/// continues. A failing store decides nothing, unless the policy is to run without protection.
#[tokio::test(start_paused = true)]
async fn a_handler_whose_lease_ran_out_waits_for_the_answer_of_the_store() {
    let fenced = Plan::Fails(StoreErrorKind::Fenced);
    let (closed, open) = (StoreFailure::Closed, StoreFailure::Open);
    for (plan, policy, ends) in [
        (Plan::Slow(10), closed, Ok(10)),
        (TRANSIENT, closed, Ok(100)),
        (TRANSIENT, open, Ok(0)),
        (fenced, closed, Err(0)),
        (fenced, open, Err(0)),
    ] {
        let store = Faulty::default();
        store.then("renew", plan);
        let config = config().lease(ms(900)).store_failure(policy);
        let (mut service, log) = behind(&over(config, &store), [Step::AnswerAfter(100)]);
        let mut running = begin(&mut service, Ask(7));
        assert!(is_pending(&mut running));
        tokio::time::advance(ms(900)).await;
        let watch = Watch::start();
        let answer = soon(running).await;
        let ended = match answer {
            Ok(1) => Ok(watch.ms()),
            Ok(other) => panic!("{other}"),
            Err(error) => {
                assert_eq!(error.kind(), Some(ErrorKind::ClaimLost));
                Err(watch.ms())
            }
        };
        assert_eq!((ended, log.live()), (ends, 0));
    }
}

/// Another process may own the key by then. The handler may hold a resource that the store needs,
/// so it is dropped.
#[tokio::test(start_paused = true)]
async fn a_handler_whose_claim_no_store_confirms_is_dropped_after_the_patience() {
    for (plan, fails) in [(TRANSIENT, 1_000), (Plan::Hangs, 1_000), (Plan::HangsUndone, 1_000)] {
        let store = Faulty::default();
        store.always("renew", plan);
        let config = config().lease(ms(900)).patience(ms(1_000));
        let (mut service, log) = behind(&over(config, &store), [Step::AnswerAfter(100)]);
        let mut running = begin(&mut service, Ask(7));
        assert!(is_pending(&mut running));
        tokio::time::advance(ms(900)).await;
        let watch = Watch::start();
        let error = soon(running).await.unwrap_err();
        assert_eq!((error.kind(), log.live()), (Some(ErrorKind::ClaimLost), 0), "{plan:?}");
        assert!((fails..=fails + 300).contains(&watch.ms()), "{plan:?}: {}", watch.ms());
    }
}

/// The handler has not run yet: the layer repeats the claim, and the store reports the owner.
#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_comes_after_its_lease_is_asked_for_again() {
    let store = Faulty::default();
    store.then("claim", Plan::SlowReply(900));
    let (inner, log) = Scripted::new();
    log.then([Step::Answer, Step::Answer]);
    let here = over(config().lease(ms(900)), &store);
    let elsewhere = over(config().lease(ms(900)), &store);
    let late = tokio::spawn(begin(&mut here.layer(inner.clone()), Ask(7)));
    Clock::default().sleep(ms(899)).await;
    // A call that waits for the end of the lease takes the key over.
    let other = tokio::spawn(begin(&mut elsewhere.layer(inner), Ask(7)));
    assert_eq!(soon(other).await.unwrap().unwrap(), 1);
    assert_eq!(soon(late).await.unwrap().unwrap(), 1);
    assert_eq!(log.calls(), 1);
}

/// The layer would never know that it owns the key.
#[tokio::test(start_paused = true)]
async fn a_store_whose_answers_all_come_after_the_lease_is_a_store_that_fails() {
    let store = Faulty::default();
    store.always("claim", Plan::SlowReply(900));
    let (mut service, log) = behind(&over(config().lease(ms(900)), &store), []);
    let watch = Watch::start();
    let error = soon(begin(&mut service, Ask(7))).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::StoreUnavailable));
    assert_eq!((watch.ms(), log.calls()), (2_700, 0));
}
