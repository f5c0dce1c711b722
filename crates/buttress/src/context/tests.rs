use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::*;

fn named(id: &str) -> Context {
    Context::new().with_correlation(id.parse().expect("an id"))
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

fn seen() -> String {
    Context::peek(|context| {
        context.correlation().map_or_else(|| "-".to_owned(), ToString::to_string)
    })
}

#[expect(clippy::disallowed_methods, reason = "any instant will do as the origin")]
fn origin() -> Instant {
    Instant::now()
}

#[test]
fn a_deadline_only_comes_closer() {
    let (start, ms) = (origin(), Duration::from_millis);
    let context = Context::new().with_deadline(start + ms(5));
    assert_eq!(context.clone().with_deadline(start + ms(9)).expires(), Some(start + ms(5)));
    assert_eq!(context.clone().with_deadline(start + ms(2)).expires(), Some(start + ms(2)));
    assert_eq!(context.without_deadline(), Context::new());
}

#[test]
fn a_scope_replaces_the_context_and_gives_the_outer_one_back() {
    named("outer").sync_scope(|| {
        assert_eq!(seen(), "outer");
        named("inner").sync_scope(|| assert_eq!(seen(), "inner"));
        Context::new().sync_scope(|| assert_eq!(seen(), "-"));
        assert_eq!(seen(), "outer");
    });
    assert_eq!(seen(), "-");
    assert_eq!(Context::current(), Context::new());
}

#[test]
fn a_call_that_runs_into_the_deadline_reports_the_time_that_it_had() {
    let (start, ms) = (origin(), Duration::from_millis);
    let context = Context::new().with_deadline(start + ms(5));
    assert_eq!(context.overrun(start).unwrap().time_limit(), Some(ms(5)));
    assert_eq!(context.overrun(start + ms(6)).unwrap().time_limit(), Some(ms(0)));
    assert_eq!(context.expired(start + ms(4)), None);
    assert_eq!(context.expired(start + ms(5)).unwrap().time_limit(), Some(ms(0)));
    assert_eq!(Context::new().overrun(start), None);
}

#[test]
fn the_deadline_of_the_thread_is_that_of_its_context() {
    let at = origin();
    Context::new().with_deadline(at).sync_scope(|| {
        assert_eq!(Context::deadline(), Some(at));
        named("inner").sync_scope(|| assert_eq!(Context::deadline(), None));
        assert_eq!(Context::deadline(), Some(at));
    });
    assert_eq!(Context::deadline(), None);
}

#[test]
fn a_panic_inside_gives_the_outer_context_back() {
    let panicked = std::panic::catch_unwind(|| {
        named("inner")
            .with_deadline(origin())
            .sync_scope(|| std::panic::resume_unwind(Box::new(())))
    });
    assert!(panicked.is_err());
    assert_eq!((seen(), Context::deadline()), ("-".to_owned(), None));
}

#[test]
fn inside_of_peek_a_scope_has_no_effect_and_nothing_is_lost() {
    named("outer").sync_scope(|| {
        Context::peek(|_| named("inner").sync_scope(|| assert_eq!(seen(), "outer")));
        assert_eq!(seen(), "outer");
    });
}

#[test]
fn a_future_is_polled_and_dropped_inside_its_scope_only() {
    struct Seen(Rc<Cell<u32>>, &'static str);
    impl Drop for Seen {
        fn drop(&mut self) {
            assert_eq!(seen(), self.1);
            self.0.set(self.0.get() + 1);
        }
    }
    let dropped = Rc::new(Cell::new(0));
    let held = Seen(dropped.clone(), "inside");
    let future = named("inside").scope(async move {
        assert_eq!(seen(), "inside");
        tokio::task::yield_now().await;
        drop(held);
    });
    let mut future = Box::pin(future);
    assert!(poll(future.as_mut()).is_pending());
    assert_eq!(seen(), "-");
    drop(future);
    assert_eq!(dropped.get(), 1);
}

#[test]
fn run_calls_the_service_inside_and_scope_does_not() {
    struct Service;
    impl tower::Service<()> for Service {
        type Response = String;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<String, Self::Error>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            std::future::ready(Ok(seen()))
        }
    }
    let ready = |future| match poll(std::pin::pin!(future)) {
        Poll::Ready(Ok(seen)) => seen,
        _ => "not ready".to_owned(),
    };
    assert_eq!(ready(named("inside").run(&mut Service, ())), "inside");
    let called = tower::Service::call(&mut Service, ());
    assert_eq!(ready(named("inside").scope(called)), "-");
    assert_eq!(seen(), "-");
}

#[tokio::test]
async fn edge_1_12_a_task_of_tokio_loses_the_context_and_a_task_of_the_context_keeps_it() {
    let task = async {
        let lost = tokio::spawn(async { seen() }).await;
        let kept = Context::current().spawn(async { seen() }).await;
        (lost.ok(), kept.ok())
    };
    let (lost, kept) = named("inside").scope(task).await;
    assert_eq!(lost.as_deref(), Some("-"));
    assert_eq!(kept.as_deref(), Some("inside"));
}

#[tokio::test]
async fn two_tasks_of_one_thread_have_their_own_contexts() {
    let task = |id: &'static str| {
        named(id).scope(async move {
            for _ in 0..10 {
                assert_eq!(seen(), id);
                tokio::task::yield_now().await;
            }
        })
    };
    tokio::join!(task("one"), task("two"));
    assert_eq!(seen(), "-");
}

#[test]
fn a_context_can_be_read_while_its_thread_ends() {
    struct AtTheEnd;
    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            named("too-late").sync_scope(seen);
        }
    }
    thread_local!(static LAST: AtTheEnd = const { AtTheEnd });
    let ended = std::thread::spawn(|| {
        LAST.with(|_| ());
        named("early").sync_scope(seen)
    });
    assert_eq!(ended.join().ok().as_deref(), Some("early"));
}

#[test]
fn the_identity_is_not_in_the_debug_text() {
    let text = format!("{:?}", named("id").with_identity("alice@example.org"));
    assert!(text.contains("CorrelationId(id)") && !text.contains("alice"), "{text}");
}
