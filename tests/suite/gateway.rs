//! The gateway through its public API, under a paused clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use buttress::gateway::{Decision, Gateway, Route, RouteStats};
use buttress::{Clock, Error, ErrorKind, as_response, rate_limit};
use tower::util::BoxCloneService;
use tower::{BoxError, Service, service_fn};

use crate::support::{ByHand, is_pending, panic_of};

type Backend = BoxCloneService<Ask, String, BoxError>;

/// A route and a token.
type Ask = (&'static str, &'static str);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn backend(name: &'static str, takes: Duration) -> Backend {
    BoxCloneService::new(service_fn(move |_: Ask| async move {
        if !takes.is_zero() {
            Clock::default().sleep(takes).await;
        }
        Ok(name.to_owned())
    }))
}

/// A backend that is not ready while `busy` is set, or fails to become ready.
#[derive(Clone)]
struct Picky {
    name: &'static str,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    busy: bool,
    broken: bool,
    waker: Option<std::task::Waker>,
}

impl Picky {
    fn set(&self, busy: bool, broken: bool) {
        let mut state = self.state.lock().unwrap();
        (state.busy, state.broken) = (busy, broken);
        state.waker.take().into_iter().for_each(std::task::Waker::wake);
    }

    fn poll_ready(&self, cx: &std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
        let mut state = self.state.lock().unwrap();
        if state.broken {
            return Poll::Ready(Err("broken".into()));
        }
        if state.busy {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn backend(&self) -> Backend {
        let (picky, name) = (self.clone(), self.name);
        let ready = move |cx: &mut std::task::Context<'_>| picky.poll_ready(cx);
        BoxCloneService::new(ByHand { ready, answer: move |_: Ask| Ok(name.to_owned()) })
    }
}

fn path(ask: &Ask) -> Option<&str> {
    Some(ask.0)
}

fn kind(result: Result<String, BoxError>) -> ErrorKind {
    result.unwrap_err().downcast_ref::<Error>().expect("a refusal").kind()
}

fn ended(route: &RouteStats) -> u64 {
    let refused =
        route.unauthorized + route.auth_unavailable + route.rate_limited + route.no_backend;
    route.answered + route.failed + route.timed_out + route.abandoned + refused
}

#[tokio::test(start_paused = true)]
async fn backends_take_turns_and_a_refused_request_takes_none_and_spends_no_token() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let auth = service_fn(move |token: &'static str| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            match token {
                "good" => Ok(Decision::Allow),
                "bad" => Ok(Decision::Deny),
                "" => Ok(Decision::Unauthenticated),
                _ => Err(BoxError::from("away")),
            }
        }
    });
    let route = Route::new("a")
        .backend(backend("one", ms(0)))
        .backend(backend("two", ms(0)))
        .backend(backend("three", ms(0)))
        .authorize(auth, |ask: &Ask| ask.1)
        .rate_limit(rate_limit::Config::new().max_tokens(4).refill(1, Duration::from_secs(3600)));
    let mut gateway = Gateway::new("edge", Clock::default(), path, [route]).unwrap();
    let handle = gateway.handle();
    assert_eq!(gateway.call(("a", "good")).await.unwrap(), "one");
    assert_eq!(kind(gateway.call(("a", "bad")).await), ErrorKind::Forbidden);
    assert_eq!(kind(gateway.call(("a", "?")).await), ErrorKind::AuthUnavailable);
    assert_eq!(kind(gateway.call(("a", "")).await), ErrorKind::Unauthenticated);
    assert_eq!(kind(gateway.call(("b", "good")).await), ErrorKind::NoRoute);
    assert_eq!(gateway.call(("a", "good")).await.unwrap(), "two");
    assert_eq!(handle.rate_limit("a").unwrap().available(), 2, "refusals spent no token");
    assert_eq!(gateway.clone().call(("a", "good")).await.unwrap(), "three");
    assert_eq!(gateway.call(("a", "good")).await.unwrap(), "one");
    assert_eq!(kind(gateway.call(("a", "good")).await), ErrorKind::RateLimited);
    assert_eq!(kind(gateway.call(("a", "bad")).await), ErrorKind::Forbidden, "auth comes first");
    let stats = handle.stats();
    let route = &stats.routes[0];
    assert_eq!((stats.begun, stats.no_route, route.begun), (10, 1, 9));
    assert_eq!((route.answered, route.forbidden, route.auth_unavailable), (4, 2, 1));
    assert_eq!((route.unauthenticated, route.unauthorized), (1, 3));
    assert_eq!((route.rate_limited, route.in_flight()), (1, 0));
    assert_eq!(route.backends, [2, 1, 1]);
    assert_eq!(ended(route), route.begun);
    assert_eq!(asked.load(Ordering::SeqCst), 9, "an unknown route needs no authorization");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_not_ready_or_broken_is_passed_by() {
    let [one, two, three] =
        ["one", "two", "three"].map(|name| Picky { name, state: Arc::default() });
    let route =
        Route::new("a").backend(one.backend()).backend(two.backend()).backend(three.backend());
    let mut gateway = Gateway::new("edge", Clock::default(), path, [route]).unwrap();
    two.set(true, false);
    three.set(false, true);
    for _ in 0..3 {
        assert_eq!(gateway.call(("a", "")).await.unwrap(), "one");
    }
    // No backend is ready: the first ready backend gets the call.
    one.set(true, false);
    let waiting = tokio::spawn(gateway.call(("a", "")));
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    two.set(false, false);
    assert_eq!(waiting.await.unwrap().unwrap(), "two");
    for picky in [&one, &two, &three] {
        picky.set(false, true);
    }
    assert_eq!(kind(gateway.call(("a", "")).await), ErrorKind::NoBackend);
    let stats = gateway.handle().stats();
    assert_eq!(stats.routes[0].backends, [3, 1, 0]);
    assert_eq!(stats.routes[0].no_backend, 1);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_answers_the_caller_wherever_the_request_is() {
    let clock = Clock::default();
    let slow_auth = service_fn(async |token: &'static str| {
        if token == "slow" {
            Clock::default().sleep(ms(900)).await;
        }
        Ok::<_, BoxError>(Decision::Allow)
    });
    let busy = Picky { name: "busy", state: Arc::default() };
    busy.set(true, false);
    let routes = [
        Route::new("backend").backend(backend("one", ms(900))).time_limit(ms(500)),
        Route::new("auth")
            .backend(backend("one", ms(0)))
            .authorize(slow_auth, |ask: &Ask| ask.1)
            .time_limit(ms(500)),
        Route::new("waiting").backend(busy.backend()).time_limit(ms(500)),
    ];
    let mut gateway = Gateway::new("edge", clock.clone(), path, routes).unwrap();
    for name in ["backend", "auth", "waiting"] {
        let begun = clock.now();
        assert_eq!(kind(gateway.call((name, "slow")).await), ErrorKind::TimedOut, "{name}");
        assert_eq!(clock.now() - begun, ms(500), "{name}");
    }
    let stats = gateway.handle().stats();
    assert!(stats.routes.iter().all(|route| (route.timed_out, route.in_flight()) == (1, 0)));
    assert_eq!(stats.routes[2].backends, [0]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_and_a_panic_are_counted() {
    let panics = BoxCloneService::new(service_fn(|ask: Ask| async move {
        match ask.1 {
            "panic" => panic!("a backend"),
            "fail" => Err(BoxError::from("no")),
            _ => std::future::pending().await,
        }
    }));
    let route: Route<Ask, Backend> = Route::new("a").backend(panics);
    let mut gateway = Gateway::new("edge", Clock::default(), path, [route]).unwrap();
    let handle = gateway.handle();
    let mut left = Box::pin(gateway.call(("a", "")));
    assert!(futures_poll(&mut left).await);
    assert_eq!(handle.stats().routes[0].in_flight(), 1);
    drop(left);
    drop(gateway.call(("a", "never polled")));
    assert!(tokio::spawn(gateway.call(("a", "panic"))).await.is_err());
    assert_eq!(gateway.call(("a", "fail")).await.unwrap_err().to_string(), "no");
    let route = &handle.stats().routes[0];
    assert_eq!((route.begun, route.abandoned, route.failed), (4, 3, 1));
}

/// The future is kept, as by code that catches the panic.
#[tokio::test(start_paused = true)]
async fn a_panic_is_counted_on_the_spot() {
    let panics = service_fn(|_: Ask| -> std::future::Pending<Result<String, BoxError>> {
        panic!("a backend")
    });
    let route = Route::new("a").backend(panics);
    let mut gateway = Gateway::new("edge", Clock::default(), path, [route]).unwrap();
    let mut call = Box::pin(gateway.call(("a", "")));
    assert_eq!(panic_of(|| is_pending(&mut call)), "a backend");
    let route = &gateway.handle().stats().routes[0];
    assert_eq!((route.abandoned, route.in_flight()), (1, 0));
    drop(call);
    assert_eq!(gateway.handle().stats().routes[0].abandoned, 1, "once");
}

/// Polls once, and returns whether the future is pending.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_cannot_fail_answers_refusals() {
    let backend = service_fn(async |_: Ask| Ok::<_, std::convert::Infallible>("fine".to_owned()));
    let route = Route::new("a").backend(backend);
    let gateway = Gateway::new("edge", Clock::default(), path, [route]).unwrap();
    let mut gateway = gateway.reject(as_response(|error: Error| error.to_string()));
    assert_eq!(gateway.call(("a", "")).await.unwrap(), "fine");
    let Ok(lost) = gateway.call(("z", "")).await;
    assert_eq!(lost, "gateway \"edge\" has no route for the request");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let new = |routes: Vec<Route<Ask, Backend>>| {
        Gateway::new("edge", Clock::default(), path, routes).map(|_| ()).unwrap_err().to_string()
    };
    let one = || Route::new("a").backend(backend("one", ms(0)));
    assert_eq!(new(vec![]), "routes: 0 is not at least 1");
    assert_eq!(new(vec![Route::new("a")]), "a.backends: 0 is not at least 1");
    assert_eq!(new(vec![one(), one()]), "routes: a is not a name no other route has");
    assert!(new(vec![one().time_limit(ms(0))]).contains("limit"));
    assert!(
        new(vec![one().rate_limit(rate_limit::Config::new().max_tokens(0))]).contains("max-tokens")
    );
}
