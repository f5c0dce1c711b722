//! Split: which side a request goes to, how the share changes, and when the old side answers for the new one.

mod fall_back;

use std::collections::BTreeMap;
use std::future::{Ready, ready};

use buttress::split::{Config, Handle, Side, Split, key};
use buttress::telemetry::{Reading, Source};
use buttress::{Clock, Event, Rng};
use tower::util::ServiceFn;
use tower::{BoxError, Service, ServiceExt, service_fn};

use crate::support::{
    AppError, Ask, Events, Scripted, Step, begin, call, is_pending, ms, now, panic_of,
};

type Answers = ServiceFn<fn(u32) -> Ready<Result<Side, BoxError>>>;

/// A service that answers with its side.
fn answers(side: Side) -> Answers {
    service_fn(match side {
        Side::Old => |_| ready(Ok(Side::Old)),
        Side::New => |_| ready(Ok(Side::New)),
    })
}

type ByKey = fn(&u32) -> Option<u64>;

fn by_key(request: &u32) -> Option<u64> {
    Some(key(request.to_string()))
}

fn config(share: f64) -> Config {
    Config::new().name("orders").rng(Rng::seeded(7)).share(share)
}

fn split(share: f64) -> Split<Answers, Answers> {
    Split::new(answers(Side::Old), answers(Side::New), config(share)).unwrap()
}

fn sticky(share: f64) -> Split<Answers, Answers, ByKey> {
    split(share).stick_by(by_key as ByKey)
}

/// The sides of the requests `0..count`.
fn sides<S>(split: &mut S, count: u32) -> Vec<Side>
where
    S: Service<u32, Response = Side, Error = BoxError>,
{
    (0..count).map(|request| now(begin(split, request)).unwrap()).collect()
}

fn over(sides: &[Side]) -> usize {
    sides.iter().filter(|side| **side == Side::New).count()
}

/// Whether `count` of `all` is within three standard deviations of the share.
fn is_near(count: usize, all: u32, share: f64) -> bool {
    let all = f64::from(all);
    let sigma = (all * share * (1.0 - share)).sqrt();
    (count as f64 - all * share).abs() <= 3.0 * sigma
}

const KEYS: u32 = 100_000;

#[test]
fn edge_3_1_the_share_is_within_three_sigma_over_keys_and_by_chance() {
    for share in [0.001, 0.05, 0.25, 0.5, 0.95] {
        let by_key = over(&sides(&mut sticky(share), KEYS));
        assert!(is_near(by_key, KEYS, share), "{by_key} keys at {share}");
        let by_chance = over(&sides(&mut split(share), KEYS));
        assert!(is_near(by_chance, KEYS, share), "{by_chance} by chance at {share}");
    }
}

#[test]
fn edge_3_1_all_requests_of_a_key_and_all_clones_go_to_one_side() {
    let one = sticky(0.5);
    for request in 0..20 {
        let first = now(begin(&mut one.clone(), request)).unwrap();
        let mut clone = one.clone();
        for _ in 0..(KEYS / 20) {
            assert_eq!(now(begin(&mut clone, request)).unwrap(), first, "key {request}");
        }
    }
    // Another process: its handle and its seed are others.
    let seed = config(0.5).rng(Rng::seeded(8));
    let other = Split::new(answers(Side::Old), answers(Side::New), seed).unwrap();
    let other = sides(&mut other.stick_by(by_key as ByKey), 1_000);
    assert_eq!(other, sides(&mut one.clone(), 1_000));
}

#[test]
fn edge_3_2_a_larger_share_moves_nobody_back_and_a_smaller_one_exactly_the_last() {
    let mut split = sticky(0.05);
    let few = sides(&mut split, KEYS);
    split.handle().share(0.25).unwrap();
    let many = sides(&mut split, KEYS);
    let moved_back = few.iter().zip(&many).filter(|it| *it == (&Side::New, &Side::Old)).count();
    assert_eq!(moved_back, 0);
    assert!(over(&many) > 4 * over(&few));
    split.handle().share(0.05).unwrap();
    assert_eq!(sides(&mut split, KEYS), few, "exactly those that came in last went back");
}

#[test]
fn edge_3_3_shares_of_none_and_all_are_exact() {
    assert_eq!(over(&sides(&mut sticky(0.0), KEYS)), 0);
    assert_eq!(over(&sides(&mut split(0.0), KEYS)), 0);
    assert_eq!(over(&sides(&mut sticky(1.0), KEYS)), KEYS as usize);
    assert_eq!(over(&sides(&mut split(1.0), KEYS)), KEYS as usize);
    assert_eq!(Config::new().build_share(), 0.0, "the default");
}

/// Reads the share of a configuration back.
trait BuildShare {
    fn build_share(self) -> f64;
}

impl BuildShare for Config {
    fn build_share(self) -> f64 {
        Handle::new(&self).unwrap().stats().share
    }
}

#[test]
fn edge_3_4_a_share_that_is_none_is_a_config_error_and_changes_nothing() {
    let split = split(0.5);
    let handle = split.handle();
    for (share, text) in [(f64::NAN, "NaN"), (-0.1, "-0.1"), (1.1, "1.1"), (f64::INFINITY, "inf")] {
        let message = format!("share: {text} is not between 0 and 1");
        let named = format!(r#""orders": {message}"#);
        assert_eq!(Handle::new(&config(share)).unwrap_err().to_string(), named);
        assert_eq!(handle.share(share).unwrap_err().to_string(), message);
        assert_eq!(handle.ramp_to(share, ms(1)).unwrap_err().to_string(), message);
        assert_eq!(handle.ramp(share, 1.0, ms(1)).unwrap_err().field(), "from");
        assert_eq!(handle.reconfigure(&config(share)).unwrap_err().to_string(), named);
    }
    assert_eq!(handle.ramp_to(1.0, std::time::Duration::MAX).unwrap_err().field(), "time");
    assert_eq!((handle.stats().share, handle.stats().target), (0.5, 0.5));
}

#[test]
fn edge_3_5_a_request_chooses_its_side_only_if_that_is_enabled() {
    let chosen = |request: &u32| match request {
        1 => Side::named("new"),
        2 => Side::named("OLD"),
        3 => Side::named("canary"),
        _ => None,
    };
    let mut enabled = split(0.0).force(chosen);
    assert_eq!(now(begin(&mut enabled, 1)).unwrap(), Side::New);
    assert_eq!(now(begin(&mut enabled, 3)).unwrap(), Side::Old, "an unknown value");
    enabled.handle().share(1.0).unwrap();
    assert_eq!(now(begin(&mut enabled, 2)).unwrap(), Side::Old);
    assert_eq!(now(begin(&mut enabled, 3)).unwrap(), Side::New, "an unknown value");
    assert_eq!(now(begin(&mut enabled, 4)).unwrap(), Side::New, "no value");
    assert_eq!(now(begin(&mut split(0.0), 1)).unwrap(), Side::Old, "not enabled");
}

#[tokio::test(start_paused = true)]
async fn a_ramp_follows_the_clock_and_an_operator_can_stop_it() {
    let mut split = sticky(0.0);
    let handle = split.handle();
    handle.ramp(0.0, 1.0, ms(1_000)).unwrap();
    let mut before = sides(&mut split, 1_000);
    assert_eq!(over(&before), 0);
    for passed in 1..=10_u32 {
        tokio::time::advance(ms(100)).await;
        let share = f64::from(passed) / 10.0;
        assert!((handle.stats().share - share).abs() < 1e-9, "{passed}");
        let after = sides(&mut split, 1_000);
        assert!(before.iter().zip(&after).all(|it| it != (&Side::New, &Side::Old)));
        assert!(over(&after) > over(&before));
        before = after;
    }
    assert_eq!(over(&before), 1_000, "exactly all at the end");
    handle.ramp_to(0.5, ms(1_000)).unwrap();
    tokio::time::advance(ms(500)).await;
    assert_eq!((handle.stats().share, handle.stats().target), (0.75, 0.5));
    handle.share(0.1).unwrap();
    tokio::time::advance(ms(5_000)).await;
    assert_eq!(handle.stats().share, 0.1);
}

#[tokio::test(start_paused = true)]
async fn a_document_that_is_applied_again_does_not_end_a_ramp_to_its_share() {
    let handle = split(0.0).handle();
    handle.ramp_to(1.0, ms(1_000)).unwrap();
    tokio::time::advance(ms(500)).await;
    handle.reconfigure(&config(1.0)).unwrap();
    assert_eq!(handle.stats().share, 0.5);
    handle.reconfigure(&config(0.2)).unwrap();
    assert_eq!((handle.stats().share, handle.config().build_share()), (0.2, 0.2));
    let moved = handle.reconfigure(&config(0.2).salt("other")).unwrap_err();
    assert_eq!(
        moved.to_string(),
        "salt: \"other\" is not the salt of the running split, \"orders\""
    );
    handle.reconfigure(&config(0.2).salt("orders")).unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_configuration_in_force_that_is_applied_again_ends_no_ramp() {
    for to in [0.5, 1.0 / 3.0, 0.123_456_789_012_345_6] {
        let handle = split(0.0).handle();
        handle.ramp_to(to, ms(1_000)).unwrap();
        tokio::time::advance(ms(500)).await;
        let before = handle.stats();
        handle.reconfigure(&handle.config()).unwrap();
        assert_eq!(handle.stats(), before, "{to}");
        assert!(before.share < before.target);
    }
}

#[test]
fn splits_with_other_salts_send_other_keys_over_first() {
    let salted = |salt: &str| {
        let split = Split::new(answers(Side::Old), answers(Side::New), config(0.5).salt(salt));
        sides(&mut split.unwrap().stick_by(by_key as ByKey), 10_000)
    };
    let (one, other) = (salted("one"), salted("other"));
    let both = one.iter().zip(&other).filter(|it| *it == (&Side::New, &Side::New)).count();
    assert!((2_200..2_800).contains(&both), "{both}: a quarter of them");
    assert_eq!(salted("orders"), sides(&mut sticky(0.5), 10_000), "the default is the name");
}

#[tokio::test(start_paused = true)]
async fn a_side_that_is_not_ready_delays_no_request_of_the_other() {
    let ((old, olds), (new, news)) = (Scripted::new(), Scripted::new());
    let to = |ask: &Ask| Some(if ask.0 == 0 { Side::Old } else { Side::New });
    let mut split = Split::new(old, new, config(0.0)).unwrap().force(to);
    news.block();
    let mut waiting = begin(&mut split, Ask(1));
    assert!(is_pending(&mut waiting));
    assert_eq!(call(&mut split, Ask(0)).await, Ok(1));
    news.unblock();
    assert_eq!(waiting.await, Ok(1));
    news.fail_ready();
    assert_eq!(call(&mut split, Ask(1)).await, Err(AppError::Broken("not ready")));
    news.then([Step::PanicInCall]);
    let mut panics = begin(&mut split, Ask(1));
    assert_eq!(panic_of(|| is_pending(&mut panics)), "scripted panic in call");
    news.then([Step::Held]);
    let mut held = begin(&mut split, Ask(1));
    assert!(is_pending(&mut held));
    assert_eq!((olds.live(), news.live()), (0, 1));
    drop(held);
    assert_eq!(news.live(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_split_over_boxed_errors_runs_as_a_task() {
    let fine = service_fn(async |id: u32| Ok::<u32, BoxError>(id));
    let down = service_fn(async |_: u32| Err::<u32, BoxError>("down".into()));
    let split = Split::new(fine, down, Config::new()).unwrap();
    let running = tokio::spawn(split.oneshot(7));
    assert_eq!(running.await.unwrap().unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn an_operator_sees_who_was_served_by_whom() {
    let events = Events::default();
    let observed = config(0.0).count_calls(true).observer(events.clone());
    let handle = Handle::new(&observed).unwrap();
    let choose = |request: &u32| (*request == 1).then_some(Side::New);
    let one = Split::with_handle(answers(Side::Old), answers(Side::New), &handle).force(choose);
    let other = Split::with_handle(answers(Side::Old), answers(Side::New), &handle);
    assert_eq!(over(&sides(&mut one.clone(), 10)), 1);
    handle.share(1.0).unwrap();
    assert_eq!(over(&sides(&mut other.clone(), 5)), 5);
    assert_eq!(events.all(), [Event::Reconfigured]);

    let mut reading = Reading::new();
    handle.read(&mut reading);
    let read: BTreeMap<_, _> = ["old", "new"]
        .map(|side| (side, reading.value("buttress.split.calls", &[("side", side)])))
        .into();
    assert_eq!(read, BTreeMap::from([("old", Some(9.0)), ("new", Some(6.0))]));
    assert_eq!(reading.value("buttress.split.share", &[("layer", "orders")]), Some(1.0));
    assert_eq!(reading.value("buttress.split.forced", &[]), Some(1.0));
    assert_eq!(reading.value("buttress.split.fell_back", &[]), Some(0.0));
    assert_eq!(split(0.5).handle().stats().old, None, "not counted");
    let _clock = Clock::default();
}
