//! Aggregate: several services asked concurrently, and what becomes of the parts that do not answer.

mod panics;

use std::sync::{Arc, Mutex};

use buttress::aggregate::{Aggregate, Config, Missing, Parts};
use buttress::context::Context;
use buttress::telemetry::{Reading, Source};
use buttress::{Absence, Clock, ErrorKind, Event, Name};
use tower::{BoxError, ServiceExt, service_fn};

use crate::support::{
    AppError, Ask, Log, Scripted, Step, Watch, begin, call, is_pending, ms, now, panic_of, soon,
};

/// An order, which is required, and a payment and a stock, which are not.
macro_rules! page {
    ($config:expr) => {{
        let ((order, orders), (payment, payments), (stock, stocks)) =
            (Scripted::new(), Scripted::new(), Scripted::new());
        let page = Aggregate::builder()
            .required("order", order)
            .optional("payment", payment)
            .optional("stock", stock)
            .config($config)
            .build()
            .unwrap();
        (page, Logs { orders, payments, stocks })
    }};
}

struct Logs {
    orders: Log,
    payments: Log,
    stocks: Log,
}

impl Logs {
    fn live(&self) -> usize {
        [&self.orders, &self.payments, &self.stocks].iter().map(|log| log.live()).sum()
    }
}

fn within(limit: u64) -> Config {
    Config::new().name("page").within(ms(limit))
}

fn names<T>(parts: &Parts<T>) -> Vec<&'static str> {
    parts.missing().iter().map(|name| name.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn edge_4_1_all_parts_run_concurrently_and_stand_in_the_order_of_the_definition() {
    let (mut page, logs) = page!(within(800));
    logs.orders.then([Step::AnswerAfter(30)]);
    logs.payments.then([Step::AnswerAfter(10)]);
    logs.stocks.then([Step::Answer, Step::AnswerAfter(20)]);
    let watch = Watch::start();
    let first = call(&mut page, Ask(1)).await.unwrap();
    assert_eq!(watch.ms(), 30, "as long as the slowest part");
    assert_eq!(first.values, (1, Ok(1), Ok(1)));
    let second = call(&mut page, Ask(2)).await.unwrap();
    assert_eq!((second.values, watch.ms()), ((2, Ok(2), Ok(2)), 50));
    assert!(!first.is_partial() && first.missing().is_empty());
    assert_eq!(logs.orders.at(), logs.stocks.at());
}

#[tokio::test(start_paused = true)]
async fn edge_4_1_the_order_is_that_of_the_definition_whichever_part_ends_first() {
    let part = |wait: u64, answer: &'static str| {
        service_fn(move |_: ()| async move {
            Clock::default().sleep(ms(wait)).await;
            Ok::<_, BoxError>(answer)
        })
    };
    for waits in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
        let page = Aggregate::builder()
            .optional("a", part(waits[0], "first"))
            .required("b", part(waits[1], "second"))
            .optional("c", part(waits[2], "third"))
            .build()
            .unwrap();
        let (first, second, third) = page.oneshot(()).await.unwrap().values;
        assert_eq!((first.unwrap(), second, third.unwrap()), ("first", "second", "third"));
    }
}

#[tokio::test(start_paused = true)]
async fn edge_4_2_the_error_of_a_required_part_comes_immediately_and_ends_the_others() {
    let (mut page, logs) = page!(within(800));
    logs.orders.then([Step::FailAfter(5)]);
    logs.payments.then([Step::Never]);
    logs.stocks.then([Step::AnswerAfter(500)]);
    let watch = Watch::start();
    let mut response = begin(&mut page, Ask(1));
    let error = soon(&mut response).await.unwrap_err();
    assert_eq!((error, watch.ms()), (AppError::Broken("scripted failure"), 5));
    assert_eq!(logs.live(), 0, "dropped with the answer, and not with the future");
    drop(response);

    logs.orders.fail_ready();
    logs.payments.then([Step::Never]);
    assert_eq!(call(&mut page, Ask(2)).await.unwrap_err(), AppError::Broken("not ready"));
    let stats = page.handle().stats();
    assert_eq!((stats.failed, stats.partial, stats.parts[0].failed), (2, 0, 2));
    assert_eq!(stats.parts[1].failed + stats.parts[1].timed_out, 0, "dropped, and not missing");
}

#[tokio::test(start_paused = true)]
async fn edge_4_2_a_part_behind_the_one_that_failed_is_not_called() {
    let (mut page, logs) = page!(within(800));
    logs.orders.then([Step::Fail]);
    assert!(now(begin(&mut page, Ask(1))).is_err());
    assert_eq!((logs.payments.calls(), logs.stocks.calls()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn edge_4_3_an_optional_part_that_fails_is_missing_and_the_others_are_kept() {
    let (mut page, logs) = page!(within(800).count_calls(true));
    logs.payments.then([Step::FailAfter(3)]);
    let parts = call(&mut page, Ask(1)).await.unwrap();
    assert_eq!(names(&parts), ["payment"]);
    assert_eq!(
        parts.values,
        (1, Err(Missing::Failed(AppError::Broken("scripted failure"))), Ok(1))
    );

    logs.stocks.fail_ready();
    let parts = call(&mut page, Ask(2)).await.unwrap();
    assert_eq!(parts.values.2, Err(Missing::Failed(AppError::Broken("not ready"))));
    let stats = page.handle().stats();
    assert_eq!((stats.calls, stats.partial, stats.failed), (Some(2), 2, 0));
    assert_eq!((stats.parts[1].failed, stats.parts[2].failed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn edge_4_3_an_optional_part_that_panics_is_missing_and_the_others_are_kept() {
    let (mut page, logs) = page!(within(800));
    for step in
        [None, Some(Step::PanicInCall), Some(Step::PanicAtPoll(1)), Some(Step::PanicAtPoll(2))]
    {
        match step {
            Some(step) => drop(logs.payments.then([step])),
            None => logs.payments.panic_ready(),
        }
        logs.orders.then([Step::AnswerAfter(1)]);
        let mut response = begin(&mut page, Ask(1));
        assert!(is_pending(&mut response));
        let parts = soon(response).await.unwrap();
        assert_eq!(parts.values.1, Err(Missing::Panicked), "{step:?}");
        assert_eq!(names(&parts), ["payment"]);
        assert_eq!(logs.live(), 0, "{step:?}");
    }
    assert_eq!(page.handle().stats().parts[1].panicked, 4);
}

/// A value that panics when it is dropped.
struct Touchy;

impl Drop for Touchy {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_4_3_a_panic_whose_value_panics_when_it_is_dropped_ends_no_other_part() {
    let fine = service_fn(async |_: ()| Ok::<_, BoxError>(7));
    let touchy = service_fn(async |_: ()| -> Result<u32, BoxError> {
        std::panic::panic_any(Touchy);
    });
    let page = Aggregate::builder().required("a", fine).optional("b", touchy).build().unwrap();
    let parts = page.oneshot(()).await.unwrap();
    assert_eq!(parts.values.0, 7);
    assert!(matches!(parts.values.1, Err(Missing::Panicked)));
}

#[tokio::test(start_paused = true)]
async fn the_panic_of_a_required_part_reaches_the_caller_after_the_others_were_dropped() {
    let (mut page, logs) = page!(within(800));
    logs.orders.then([Step::PanicAtPoll(1)]);
    logs.payments.then([Step::Never]);
    let mut response = begin(&mut page, Ask(1));
    // The order is polled first, so a second poll finds all parts in progress.
    logs.orders.then([Step::PanicAtPoll(2)]);
    assert_eq!(panic_of(|| is_pending(&mut response)), "scripted panic in poll");
    let mut second = begin(&mut page, Ask(2));
    logs.payments.then([Step::Never]);
    assert!(is_pending(&mut second));
    assert!(logs.live() > 0);
    assert_eq!(panic_of(|| is_pending(&mut second)), "scripted panic in poll");
    assert_eq!(logs.live(), 0, "the future has not been dropped");
    let stats = page.handle().stats();
    assert_eq!((stats.failed, stats.parts[0].panicked), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn edge_4_3_a_part_that_is_not_ready_in_time_never_got_the_request() {
    let (mut page, logs) = page!(within(800));
    logs.payments.block();
    let watch = Watch::start();
    let parts = call(&mut page, Ask(1)).await.unwrap();
    assert_eq!((parts.values.1, watch.ms()), (Err(Missing::NotReady), 800));
    assert_eq!(logs.payments.calls(), 0);
    // It becomes ready while the call runs.
    let mut response = begin(&mut page, Ask(2));
    assert!(is_pending(&mut response));
    logs.payments.unblock();
    assert!(!soon(response).await.unwrap().is_partial());
}

#[tokio::test(start_paused = true)]
async fn edge_4_4_at_the_limit_open_optional_parts_are_missing_and_the_answer_comes() {
    let (mut page, logs) = page!(within(800));
    logs.payments.then([Step::Never, Step::AnswerAfter(800)]);
    let watch = Watch::start();
    let mut response = begin(&mut page, Ask(1));
    let parts = soon(&mut response).await.unwrap();
    assert_eq!((parts.values, watch.ms()), ((1, Err(Missing::TimedOut), Ok(1)), 800));
    assert_eq!(logs.live(), 0, "dropped with the answer, and not with the future");
    let parts = call(&mut page, Ask(2)).await.unwrap();
    assert!(!parts.is_partial(), "an answer that is ready at the limit has won");
    let stats = page.handle().stats();
    assert_eq!((stats.partial, stats.failed, stats.parts[1].timed_out), (1, 0, 1));
    assert_eq!(page.handle().time_limit().stats().timed_out, 0, "the call did not time out");
}

#[tokio::test(start_paused = true)]
async fn edge_4_4_at_the_limit_an_open_required_part_is_the_error() {
    let (mut page, logs) = page!(within(800));
    logs.orders.then([Step::Never]);
    logs.stocks.then([Step::Never]);
    let watch = Watch::start();
    let mut response = begin(&mut page, Ask(1));
    let error = soon(&mut response).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::TimedOut));
    assert_eq!(
        (error.to_string(), watch.ms()),
        ("time limit \"page\" of 800ms passed".into(), 800)
    );
    assert_eq!(logs.live(), 0);
    logs.orders.block();
    assert!(call(&mut page, Ask(2)).await.is_err());
    let stats = page.handle().stats();
    let order = stats.parts[0];
    assert_eq!((stats.failed, order.timed_out, order.not_ready), (2, 1, 1));
    assert_eq!(stats.parts[2].timed_out, 0, "only the part that ended the call");
    assert_eq!(page.handle().time_limit().stats().timed_out, 2);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_request_ends_the_call_earlier() {
    let (mut page, logs) = page!(within(800));
    logs.payments.then([Step::Never]);
    logs.orders.then([Step::Answer, Step::Never]);
    let watch = Watch::start();
    let context = || Context::new().with_deadline(Clock::default().now() + ms(50));
    let parts = context().run(&mut page, Ask(1)).await.unwrap();
    assert_eq!((parts.values.1, watch.ms()), (Err(Missing::TimedOut), 50));
    let error = context().run(&mut page, Ask(2)).await.unwrap_err();
    assert_eq!((error.kind(), watch.ms()), (Some(ErrorKind::DeadlineExceeded), 100));
}

#[tokio::test(start_paused = true)]
async fn edge_4_5_a_definition_without_parts_or_with_a_name_twice_is_refused() {
    let part = || Scripted::new().0;
    let none = Aggregate::builder().build().unwrap_err();
    assert_eq!(none.to_string(), "parts: 0 is not between 1 and 12 parts");
    let twice = Aggregate::builder().required("order", part());
    let twice = twice.optional("order", part()).build().unwrap_err();
    assert_eq!(twice.to_string(), "part: \"order\" is not used by one part only");
    let long = "x".repeat(65);
    for name in ["", "pay ment", "a,b", "\r\n", "größe", &long] {
        let named = Aggregate::builder().optional(name.to_owned(), part());
        assert_eq!(named.build().unwrap_err().field(), "part", "{name:?}");
    }
    let never = Aggregate::builder().optional("order", part()).within(ms(0));
    assert_eq!(never.build().unwrap_err().to_string(), "within: 0s is not longer than zero");
}

#[tokio::test(start_paused = true)]
async fn edge_4_7_a_missing_part_is_a_variant_and_no_value_of_the_response() {
    let order = service_fn(async |id: u32| Ok::<_, BoxError>(format!("order {id}")));
    let payment = service_fn(async |_: u32| Err::<u64, _>(std::fmt::Error));
    let page = Aggregate::builder().required("order", order).optional("payment", payment);
    let page = page.build().unwrap();
    // The types of the values are those of the responses: an error fits only into `Missing`.
    let Parts { values: (order, payment), .. } = page.oneshot(7).await.unwrap();
    let (order, payment): (String, Result<u64, Missing<std::fmt::Error>>) = (order, payment);
    assert_eq!(order, "order 7");
    let missing = payment.unwrap_err();
    assert_eq!(missing, Missing::Failed(std::fmt::Error));
    assert_eq!(missing.to_string(), "the part failed");
    assert!(std::error::Error::source(&missing).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_aggregate_over_boxed_errors_runs_inside_of_a_task() {
    let part = service_fn(async |_: u32| Err::<u32, BoxError>("down".into()));
    let fine = service_fn(async |id: u32| Ok::<u32, BoxError>(id));
    let page = Aggregate::builder().required("a", fine).optional("b", part).build().unwrap();
    let running = tokio::spawn(async move {
        let parts = page.clone().oneshot(7).await?;
        let again = page.oneshot(8).await?;
        Ok::<_, BoxError>((parts.values.0, again.values.0))
    });
    assert_eq!(running.await.unwrap().unwrap(), (7, 8));
}

#[tokio::test(start_paused = true)]
async fn missing_parts_are_events_and_numbers() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = heard.clone();
    let config = within(800).observer(move |layer: Name, event: &Event| {
        ear.lock().unwrap().push((layer.as_str(), event.clone()));
    });
    let (mut page, logs) = page!(config);
    logs.payments.then([Step::Fail]);
    logs.stocks.then([Step::Never, Step::Never]);
    logs.orders.then([Step::Answer, Step::Never]);
    call(&mut page, Ask(1)).await.unwrap();
    let error = call(&mut page, Ask(2)).await.unwrap_err();
    let missing = |part: &'static str, reason| {
        ("page", Event::PartMissing { part: Name::from(part), reason })
    };
    let expected = [
        missing("payment", Absence::Failed),
        missing("stock", Absence::TimedOut),
        missing("order", Absence::TimedOut),
        ("page", Event::TimedOut(error.refusal().clone())),
    ];
    assert_eq!(*heard.lock().unwrap(), expected);

    let mut reading = Reading::new();
    page.handle().read(&mut reading);
    let missing = |part, reason| {
        let labels = [("layer", "page"), ("part", part), ("reason", reason)];
        reading.value("buttress.aggregate.missing", &labels)
    };
    assert_eq!(missing("payment", "failed"), Some(1.0));
    assert_eq!(missing("stock", "timed-out"), Some(1.0));
    assert_eq!(missing("stock", "panicked"), Some(0.0));
    assert_eq!(reading.value("buttress.aggregate.partial", &[]), Some(1.0));
    assert_eq!(reading.value("buttress.aggregate.failed", &[]), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn an_operator_changes_the_limit_while_calls_run() {
    let limit = buttress::time_limit::Config::new(ms(100)).build().unwrap().handle();
    let (mut page, logs) = page!(Config::new().time_limit(limit.clone()));
    logs.payments.always(Step::Never);
    let watch = Watch::start();
    assert!(call(&mut page, Ask(1)).await.unwrap().is_partial());
    assert_eq!(watch.ms(), 100);
    limit.reconfigure(&buttress::time_limit::Config::new(ms(30))).unwrap();
    assert!(call(&mut page, Ask(2)).await.unwrap().is_partial());
    assert_eq!(watch.ms(), 130);
    let changed = buttress::time_limit::Config::new(ms(20));
    page.handle().time_limit().reconfigure(&changed).unwrap();
    assert!(call(&mut page, Ask(3)).await.unwrap().is_partial());
    assert_eq!(watch.ms(), 150);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_drops_every_part() {
    let (mut page, logs) = page!(within(800));
    for log in [&logs.orders, &logs.payments, &logs.stocks] {
        log.then([Step::Never]);
    }
    let mut response = begin(&mut page, Ask(1));
    assert!(is_pending(&mut response));
    assert_eq!(logs.live(), 3);
    drop(response);
    assert_eq!(logs.live(), 0);
    assert_eq!(page.handle().stats().failed, 0, "the caller left");
    assert!(format!("{page:?}").contains("Required(Scripted"), "{page:?}");
}

#[tokio::test(start_paused = true)]
async fn twelve_parts_fit() {
    let part = || service_fn(async |id: u32| Ok::<u32, BoxError>(id));
    let page = Aggregate::builder()
        .required("1", part())
        .required("2", part())
        .required("3", part())
        .required("4", part())
        .required("5", part())
        .required("6", part())
        .required("7", part())
        .required("8", part())
        .required("9", part())
        .required("10", part())
        .required("11", part())
        .optional("12", part())
        .build();
    let parts = page.unwrap().oneshot(7).await.unwrap();
    assert_eq!((parts.values.0, parts.values.10), (7, 7));
    assert_eq!(parts.values.11.unwrap(), 7);
}
