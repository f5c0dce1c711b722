//! Shadow: a mirror changes nothing for the caller, and its answers are compared.

mod panics;

use std::sync::{Arc, Mutex};

use buttress::bulkhead;
use buttress::context::Context;
use buttress::shadow::{Compare, Comparison, Config, Mismatch, Shadow, by_fingerprint};
use buttress::telemetry::{Reading, Source};
use buttress::{Event, Name, Rng, Spawner, Task};
use tower::{BoxError, Layer, ServiceExt, service_fn};

use crate::support::{
    AppError, Ask, Log, Scripted, Step, Waiter, Watch, begin, call, is_pending, ms, now, soon,
};

type Answer = Result<u32, AppError>;

fn config() -> Config {
    Config::new().name("prices").share(1.0).rng(Rng::seeded(7)).within(ms(1_000))
}

fn copy(ask: &Ask) -> Option<Ask> {
    Some(*ask)
}

/// A shadow whose answers are equal if both or none failed.
macro_rules! shadow {
    ($config:expr) => {{
        let ((primary, primaries), (mirror, mirrors)) = (Scripted::new(), Scripted::new());
        let shadow = Shadow::new(primary, mirror, copy, $config).unwrap();
        (shadow.compare(by_fingerprint(|answer: &Answer| answer.is_ok())), primaries, mirrors)
    }};
}

/// Lets the tasks of mirrored calls run.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_mirrored_request_reaches_both_and_the_caller_gets_the_answer_of_the_primary() {
    let (mut shadow, primaries, mirrors) = shadow!(config());
    mirrors.then([Step::Answer, Step::Fail]);
    assert_eq!(call(&mut shadow, Ask(1)).await, Ok(1));
    assert_eq!(call(&mut shadow, Ask(2)).await, Ok(2));
    settle().await;
    assert_eq!((primaries.calls(), mirrors.calls()), (2, 2));
    let stats = shadow.handle().stats();
    assert_eq!((stats.mirrored, stats.same, stats.different, stats.running), (2, 1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn edge_3_7_whatever_the_mirror_does_the_primary_answers_at_the_same_poll() {
    let (mut bare, _log) = Scripted::new();
    let unmirrored = now(begin(&mut bare, Ask(1)));
    let steps =
        [Step::Never, Step::Fail, Step::PanicInCall, Step::PanicAtPoll(1), Step::PanicAtPoll(2)];
    for step in steps {
        let (mut shadow, primaries, mirrors) = shadow!(config());
        mirrors.then([step]);
        // At the first poll, without a yield.
        assert_eq!(now(begin(&mut shadow, Ask(1))), unmirrored, "{step:?}");
        assert_eq!((primaries.polls(), primaries.ready_polls()), (1, 1), "{step:?}");
        settle().await;
        assert_eq!(mirrors.calls(), 1, "{step:?}");
        tokio::time::advance(ms(1_000)).await;
        settle().await;
        let stats = shadow.handle().stats();
        assert_eq!((stats.running, mirrors.live()), (0, 0), "{step:?}");
        let ends = (stats.timed_out, stats.different, stats.panicked);
        let expected = match step {
            Step::Never => (1, 0, 0),
            Step::Fail => (0, 1, 0),
            _ => (0, 0, 1),
        };
        assert_eq!(ends, expected, "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_3_7_a_mirror_that_is_not_ready_fails_or_panics_there_delays_no_call() {
    for prepare in [Log::block as fn(&Log), Log::fail_ready, Log::panic_ready] {
        let (mut shadow, _primaries, mirrors) = shadow!(config());
        prepare(&mirrors);
        assert_eq!(now(begin(&mut shadow, Ask(1))), Ok(1));
        settle().await;
        assert_eq!(mirrors.calls(), 0);
        tokio::time::advance(ms(1_000)).await;
        settle().await;
        let stats = shadow.handle().stats();
        assert_eq!(stats.running, 0);
        assert_eq!(stats.timed_out + stats.different + stats.panicked, 1, "{stats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_3_7_a_primary_that_waits_is_woken_and_polled_as_without_a_mirror() {
    let polls = |mirrored: bool| async move {
        let (mut shadow, primaries, mirrors) = shadow!(config().share(f64::from(mirrored)));
        primaries.then([Step::Held]);
        let waiter = Waiter::new();
        let mut response = begin(&mut shadow, Ask(1));
        assert!(waiter.poll(&mut response).is_pending());
        settle().await;
        assert_eq!(mirrors.calls(), 0, "the mirror comes after the answer");
        primaries.open();
        let wakes = waiter.wakes();
        assert!(waiter.poll(&mut response).is_ready());
        (wakes, primaries.polls())
    };
    assert_eq!(polls(true).await, polls(false).await);
}

/// A comparison that panics where its number says.
#[derive(Clone)]
struct Panics(u8);

impl Compare<u32, AppError> for Panics {
    type Note = ();
    type Comparing = std::future::Ready<Comparison>;

    fn note(&self, _: &Answer) {
        assert_ne!(self.0, 0, "in note");
    }

    fn compare(&self, _note: (), _: Answer) -> std::future::Ready<Comparison> {
        assert_ne!(self.0, 1, "in compare");
        std::future::ready(Comparison::Incomparable)
    }
}

#[tokio::test(start_paused = true)]
async fn edge_3_7_a_comparison_or_an_executor_that_panics_reaches_no_caller() {
    let ((primary, _), (mirror, _)) = (Scripted::new(), Scripted::new());
    for (number, panicked) in [(0, 1), (1, 1), (2, 0)] {
        let shadow = Shadow::new(primary.clone(), mirror.clone(), copy, config()).unwrap();
        let mut shadow = shadow.compare(Panics(number));
        assert!(now(begin(&mut shadow, Ask(1))).is_ok());
        settle().await;
        let stats = shadow.handle().stats();
        assert_eq!((stats.panicked, stats.incomparable), (panicked, 1 - panicked), "{number}");
        assert_eq!(stats.running, 0);
    }
    let broken = Spawner::new(|_: Task| panic!("no executor"));
    let shadow = Shadow::new(primary, mirror, copy, config().spawner(broken)).unwrap();
    let handle = shadow.handle();
    assert!(now(begin(&mut shadow.clone(), Ask(1))).is_ok());
    assert_eq!((handle.stats().abandoned, handle.stats().running), (1, 0));
}

#[test]
fn edge_3_7_without_a_runtime_nothing_is_mirrored_and_the_primary_answers() {
    let primary = service_fn(|id: u32| std::future::ready(Ok::<u32, BoxError>(id)));
    let shadow = Shadow::new(primary, primary, |id: &u32| Some(*id), config()).unwrap();
    assert_eq!(now(begin(&mut shadow.clone(), 7)).unwrap(), 7);
    assert_eq!((shadow.handle().stats().abandoned, shadow.handle().stats().running), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn edge_3_8_a_request_that_the_primary_never_had_is_not_mirrored() {
    let full = bulkhead::Config::new().max_concurrent(1).build().unwrap();
    let ((primary, primaries), (mirror, mirrors)) = (Scripted::new(), Scripted::new());
    let shadow = Shadow::new(full.layer(primary), mirror, copy, config()).unwrap();
    let mut shadow = shadow.compare(by_fingerprint(|answer: &Answer| answer.is_ok()));
    let permit = full.handle().try_acquire().unwrap();
    assert!(call(&mut shadow, Ask(1)).await.is_err());
    settle().await;
    assert_eq!((primaries.calls(), mirrors.calls()), (0, 0));
    drop(permit);
    primaries.then([Step::Fail]);
    assert!(call(&mut shadow, Ask(2)).await.is_err(), "it failed, and was sent");
    settle().await;
    assert_eq!((primaries.calls(), mirrors.calls()), (1, 1));
    // The caller leaves.
    primaries.then([Step::Held]);
    let mut response = begin(&mut shadow, Ask(3));
    assert!(is_pending(&mut response));
    drop(response);
    settle().await;
    assert_eq!(mirrors.calls(), 1);
    assert_eq!(shadow.handle().stats().mirrored, 1);
}

#[tokio::test(start_paused = true)]
async fn edge_3_9_when_the_slots_are_taken_the_mirror_gets_less_and_the_primary_all() {
    let (mut shadow, primaries, mirrors) = shadow!(config().max_running(2));
    mirrors.always(Step::AnswerAfter(100));
    let watch = Watch::start();
    for request in 0..10 {
        assert!(call(&mut shadow, Ask(request)).await.is_ok());
        settle().await;
    }
    assert_eq!((primaries.calls(), mirrors.calls(), watch.ms()), (10, 2, 0));
    let stats = shadow.handle().stats();
    assert_eq!((stats.mirrored, stats.dropped, stats.running), (2, 8, 2));
    tokio::time::advance(ms(100)).await;
    settle().await;
    assert_eq!(shadow.handle().stats().running, 0);
    assert!(call(&mut shadow, Ask(10)).await.is_ok());
    settle().await;
    assert_eq!((mirrors.calls(), mirrors.peak()), (3, 2));
}

#[test]
fn edge_3_1_the_share_of_mirrored_requests_is_within_three_sigma() {
    let started = Arc::new(Mutex::new(0_u32));
    let count = started.clone();
    let counting = Spawner::new(move |_: Task| *count.lock().unwrap() += 1);
    let primary = service_fn(|id: u32| std::future::ready(Ok::<u32, BoxError>(id)));
    let shadow = Shadow::new(primary, primary, |id: &u32| Some(*id), config().spawner(counting));
    let mut shadow = shadow.unwrap();
    for (share, low, high) in [(0.0, 0, 0), (0.01, 906, 1_094), (1.0, 100_000, 100_000)] {
        shadow.handle().share(share).unwrap();
        let before = *started.lock().unwrap();
        for request in 0..100_000 {
            assert!(now(begin(&mut shadow, request)).is_ok());
        }
        let mirrored = *started.lock().unwrap() - before;
        assert!((low..=high).contains(&mirrored), "{mirrored} at {share}");
    }
    assert!(shadow.handle().share(f64::NAN).is_err());
    assert_eq!(shadow.handle().stats().share, 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_copy_is_not_mirrored() {
    let ((primary, _), (mirror, mirrors)) = (Scripted::new(), Scripted::new());
    let reads = |ask: &Ask| (ask.0 == 1).then_some(*ask);
    let mut shadow = Shadow::new(primary, mirror, reads, config()).unwrap();
    for request in 0..3 {
        assert!(call(&mut shadow, Ask(request)).await.is_ok());
        settle().await;
    }
    assert_eq!(mirrors.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn mismatches_are_counted_and_one_in_n_is_kept() {
    let kept = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let (ear, eye) = (kept.clone(), kept.clone());
    let observed = config()
        .keep_one_in(3)
        .observer(move |_: Name, event: &Event| ear.lock().unwrap().0.push(event.clone()))
        .on_mismatch(move |mismatch: &Mismatch| eye.lock().unwrap().1.push(mismatch.clone()));
    let (mut shadow, _primaries, mirrors) = shadow!(observed);
    mirrors.always(Step::Fail);
    for request in 0..7 {
        assert!(call(&mut shadow, Ask(request)).await.is_ok());
        settle().await;
    }
    assert_eq!(shadow.handle().stats().different, 7);
    let kept = kept.lock().unwrap();
    let mismatch = Mismatch::new("the fingerprints differ");
    assert_eq!(kept.1, vec![mismatch; 3]);
    assert_eq!(shadow.handle().stats().mirrored, 7);
    let event = Event::AnswersDiffer { what: "the fingerprints differ".into() };
    assert_eq!(kept.0, vec![event; 3]);

    let mut reading = Reading::new();
    shadow.handle().read(&mut reading);
    let ends = |end| reading.value("buttress.shadow.ends", &[("layer", "prices"), ("end", end)]);
    assert_eq!((ends("different"), ends("same")), (Some(7.0), Some(0.0)));
    assert_eq!(reading.value("buttress.shadow.mirrored", &[]), Some(7.0));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_counted_and_reported_before_it_leaves_the_running_ones() {
    let seen = Arc::new(Mutex::new((None::<buttress::shadow::Handle>, None)));
    let eye = seen.clone();
    let observed = config().on_mismatch(move |_: &Mismatch| {
        let mut seen = eye.lock().unwrap();
        seen.1 = seen.0.as_ref().map(|it| (it.stats().running, it.stats().different));
    });
    let (mut shadow, _primaries, mirrors) = shadow!(observed);
    seen.lock().unwrap().0 = Some(shadow.handle());
    mirrors.then([Step::Fail]);
    assert!(call(&mut shadow, Ask(1)).await.is_ok());
    settle().await;
    assert_eq!(seen.lock().unwrap().1, Some((1, 1)));
    assert_eq!(shadow.handle().stats().running, 0);
}

#[tokio::test(start_paused = true)]
async fn the_ends_of_mirrored_calls_add_up_also_if_nothing_is_compared() {
    let ((primary, _), (mirror, mirrors)) = (Scripted::new(), Scripted::new());
    let mut shadow = Shadow::new(primary, mirror, copy, config()).unwrap();
    mirrors.then([Step::Answer, Step::Fail, Step::PanicInCall, Step::Never, Step::Held]);
    for request in 0..5 {
        assert!(call(&mut shadow, Ask(request)).await.is_ok());
        settle().await;
    }
    let stats = shadow.handle().stats();
    assert_eq!((stats.mirrored, stats.running), (5, 2));
    assert_eq!((stats.not_compared, stats.panicked), (2, 1));
    mirrors.open();
    settle().await;
    tokio::time::advance(ms(1_000)).await;
    settle().await;
    let stats = shadow.handle().stats();
    assert_eq!((stats.not_compared, stats.panicked, stats.timed_out), (3, 1, 1));
    assert_eq!((stats.mirrored, stats.running), (5, 0));
    let mut reading = Reading::new();
    shadow.handle().read(&mut reading);
    assert_eq!(reading.value("buttress.shadow.ends", &[("end", "not-compared")]), Some(3.0));
}

/// A copier whose copies cannot be sent once the primary has answered.
#[derive(Clone)]
struct Fleeting;

impl buttress::retry::CloneRequest<Ask> for Fleeting {
    fn clone_request(&self, ask: &Ask) -> Option<Ask> {
        Some(*ask)
    }

    fn is_repeatable(&self, copy: &Ask) -> bool {
        copy.0 != 1
    }

    fn commit(&self, _: &Ask) -> bool {
        unreachable!("a mirror takes the body from no attempt")
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_cannot_be_sent_is_dropped_and_takes_no_slot() {
    let ((primary, _), (mirror, mirrors)) = (Scripted::new(), Scripted::new());
    let mut shadow = Shadow::new(primary, mirror, Fleeting, config()).unwrap();
    for request in [1, 2] {
        assert!(call(&mut shadow, Ask(request)).await.is_ok());
        settle().await;
    }
    let stats = shadow.handle().stats();
    assert_eq!((mirrors.calls(), stats.mirrored, stats.dropped), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_mirrored_call_has_the_context_of_the_request_without_its_deadline() {
    let seen = Arc::new(Mutex::new(None));
    let eye = seen.clone();
    let primary = service_fn(async |id: u32| Ok::<u32, BoxError>(id));
    let mirror = service_fn(move |id: u32| {
        let eye = eye.clone();
        async move {
            *eye.lock().unwrap() = Some(Context::current());
            Ok::<u32, BoxError>(id)
        }
    });
    let mut shadow = Shadow::new(primary, mirror, |id: &u32| Some(*id), config()).unwrap();
    let at = buttress::Clock::default().now() + ms(5);
    let context = Context::new().with_identity("alice").with_deadline(at);
    assert_eq!(context.run(&mut shadow, 7).await.unwrap(), 7);
    settle().await;
    let seen = seen.lock().unwrap().take().unwrap();
    assert_eq!((seen.identity(), seen.expires()), (Some("alice"), None));
}

#[tokio::test(start_paused = true)]
async fn a_shadow_over_boxed_errors_runs_as_a_task() {
    let fine = service_fn(async |id: u32| Ok::<u32, BoxError>(id));
    let shadow = Shadow::new(fine, fine, |id: &u32| Some(*id), config()).unwrap();
    let running = tokio::spawn(shadow.oneshot(7));
    assert_eq!(soon(running).await.unwrap().unwrap(), 7);
}

#[test]
fn a_config_that_cannot_work_is_refused() {
    let refused = |config: Config| {
        let fine = service_fn(async |id: u32| Ok::<u32, BoxError>(id));
        let shadow = Shadow::new(fine, fine, |id: &u32| Some(*id), config);
        shadow.unwrap_err().to_string()
    };
    assert_eq!(refused(config().share(1.1)), r#""prices": share: 1.1 is not between 0 and 1"#);
    assert_eq!(refused(config().max_running(0)), r#""prices": max-running: 0 is not at least 1"#);
    assert_eq!(refused(config().keep_one_in(0)), r#""prices": keep-one-in: 0 is not at least 1"#);
    assert_eq!(refused(config().within(ms(0))), r#""prices": within: 0s is not longer than zero"#);
}
