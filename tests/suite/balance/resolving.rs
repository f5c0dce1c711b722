//! Sets that a resolver finds.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::sync::Arc;

use buttress::balance::{Balance, Config, Stats};
use buttress::discover::{Instance, Resolve, file, fixed};
use buttress::{Clock, Event, StoreError, StoreErrorKind};
use tower::{BoxError, service_fn};

use crate::support::bombs::armed;
use crate::support::{Events, ms, soon};

type Set = Result<Vec<Instance>, StoreError>;

/// Returns sets one after another, and then waits.
struct Sets {
    sets: VecDeque<Set>,
    dropped: Arc<()>,
}

impl Resolve for Sets {
    async fn next(&mut self) -> Set {
        let _held = self.dropped.clone();
        match self.sets.pop_front() {
            Some(set) => set,
            None => pending().await,
        }
    }
}

fn sets(sets: impl IntoIterator<Item = Set>) -> (Sets, Arc<()>) {
    let dropped = Arc::new(());
    (Sets { sets: sets.into_iter().collect(), dropped: dropped.clone() }, dropped)
}

/// A service that answers with the address of its instance.
fn echo(
    instance: &Instance,
) -> impl tower::Service<(), Response = String, Error = BoxError, Future: Send> + Clone + Send + use<>
{
    let address = instance.address().to_owned();
    service_fn(move |()| std::future::ready(Ok(address.clone())))
}

/// A resolver of the sets that come through a channel.
fn pushed() -> (tokio::sync::mpsc::UnboundedSender<Set>, Pushed) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    (sender, Pushed(receiver))
}

struct Pushed(tokio::sync::mpsc::UnboundedReceiver<Set>);

impl Resolve for Pushed {
    async fn next(&mut self) -> Set {
        match self.0.recv().await {
            Some(set) => set,
            None => pending().await,
        }
    }
}

async fn settled(stats: impl Fn() -> Stats, until: impl Fn(&Stats) -> bool) -> Stats {
    soon(async {
        loop {
            let now = stats();
            if until(&now) {
                return now;
            }
            Clock::default().sleep(ms(1)).await;
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn edge_5_1_a_resolver_that_fails_keeps_the_last_set_and_shows_its_age() {
    let failed = || Err(StoreError::transient("no answer"));
    let events = Events::default();
    let first = Ok(vec![Instance::at("one")]);
    let (resolve, _) = sets([first, failed(), failed(), failed(), Ok(vec![Instance::at("two")])]);
    let mut balance =
        Balance::resolving(resolve, echo, Config::new().observer(events.clone())).unwrap();
    let handle = balance.handle();
    assert_eq!(soon(tower::Service::call(&mut balance, ())).await.unwrap(), "one");

    let stats = settled(|| handle.stats(), |it| it.resolve_failed == 1).await;
    let resolver = stats.resolver.unwrap();
    assert_eq!((stats.endpoints, resolver.known, resolver.failing), (1, true, 1));
    // It is asked again after 1 s, then after 2 s, and a tenth more or less.
    Clock::default().sleep(ms(2_500)).await;
    let resolver = handle.stats().resolver.unwrap();
    assert_eq!(resolver.failing, 2);
    assert!((ms(2_500)..ms(2_600)).contains(&resolver.age), "{:?}", resolver.age);
    assert_eq!(soon(tower::Service::call(&mut balance, ())).await.unwrap(), "one");

    let stats = settled(|| handle.stats(), |it| it.changes == 2).await;
    assert_eq!((stats.resolve_failed, stats.endpoints), (3, 1));
    assert_eq!(stats.resolver.unwrap().failing, 0);
    assert!(stats.resolver.unwrap().age < ms(10));
    assert_eq!(soon(tower::Service::call(&mut balance, ())).await.unwrap(), "two");
    let failures = Event::ResolveFailed { kind: StoreErrorKind::Transient };
    assert_eq!(events.all().iter().filter(|it| **it == failures).count(), 3);
}

/// Returns a service for an address without a space. Panics for `panics`.
fn fallible(instance: &Instance) -> Result<Echo, String> {
    assert_ne!(instance.address(), "panics");
    if instance.address().contains(' ') {
        return Err("the address has a space".into());
    }
    Ok(Echo::new(echo(instance)))
}

type Echo = tower::util::BoxCloneService<(), String, BoxError>;

/// Regression: a panic of `make` ended the task of the resolver, and the good set after it was never used.
#[tokio::test(start_paused = true)]
async fn an_instance_without_a_stack_is_left_out_counted_and_tried_again() {
    let events = Events::default();
    let set = |addresses: &[&str]| {
        let at = |(id, address): (usize, &&str)| Instance::new(id.to_string(), *address);
        Ok(addresses.iter().enumerate().map(at).collect())
    };
    let (next, resolve) = pushed();
    let config = Config::new().observer(events.clone());
    let balance = Balance::try_resolving(resolve, fallible, config).unwrap();
    let handle = balance.handle();
    let addresses = || handle.endpoints().into_iter().map(|it| it.address).collect::<Vec<_>>();
    next.send(set(&["one", "two"])).unwrap();
    let first = settled(|| handle.stats(), |it| it.changes == 1).await;
    assert_eq!((first.resolve_failed, first.resolver.unwrap().left_out), (0, 0));

    next.send(set(&["one", "no address", "panics", "three"])).unwrap();
    let second = settled(|| handle.stats(), |it| it.resolve_failed == 2).await;
    assert_eq!((addresses(), second.changes), (vec!["one".to_owned(), "three".to_owned()], 2));
    let resolver = second.resolver.unwrap();
    assert_eq!((resolver.left_out, resolver.failing), (2, 0));
    let failures = Event::ResolveFailed { kind: StoreErrorKind::Invalid };
    assert_eq!(events.all().iter().filter(|it| **it == failures).count(), 2);

    // A set of which no instance is usable changes nothing, and is a failure.
    next.send(set(&["panics", "no address"])).unwrap();
    let third = settled(|| handle.stats(), |it| it.resolver.unwrap().failing == 1).await;
    assert_eq!((addresses(), third.changes), (vec!["one".to_owned(), "three".to_owned()], 2));

    next.send(set(&["one", "address", "four", "three"])).unwrap();
    let last = settled(|| handle.stats(), |it| it.changes == 3).await;
    assert_eq!(addresses(), ["one", "address", "four", "three"]);
    let resolver = last.resolver.unwrap();
    assert_eq!((resolver.left_out, resolver.failing, last.resolve_failed), (0, 0, 3));
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_make_panics_is_left_out() {
    let make = |instance: &Instance| {
        assert_ne!(instance.address(), "bad");
        echo(instance)
    };
    let good = || vec![Instance::at("good")];
    let (resolve, _) = sets([Ok(vec![Instance::at("bad"), Instance::at("one")]), Ok(good())]);
    let mut balance = Balance::resolving(resolve, make, Config::new()).unwrap();
    let handle = balance.handle();
    settled(|| handle.stats(), |it| it.changes == 2).await;
    assert_eq!(soon(tower::Service::call(&mut balance, ())).await.unwrap(), "good");
    assert_eq!(handle.stats().resolve_failed, 1);
}

/// Panics when it is asked for the first time.
struct Panics {
    asked: u32,
}

impl Resolve for Panics {
    async fn next(&mut self) -> Set {
        self.asked += 1;
        match self.asked {
            1 => panic!("the resolver panics"),
            2 => Ok(vec![Instance::at("one")]),
            _ => pending().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_panics_is_asked_again() {
    let balance = Balance::resolving(Panics { asked: 0 }, echo, Config::new()).unwrap();
    let handle = balance.handle();
    let failed = settled(|| handle.stats(), |it| it.resolve_failed == 1).await;
    assert_eq!((failed.resolver.unwrap().known, failed.resolver.unwrap().failing), (false, 1));
    settled(|| handle.stats(), |it| it.changes == 1).await;
}

#[test]
fn a_panic_while_a_set_is_replaced_reaches_the_caller_and_changes_nothing() {
    let set = buttress::balance::Endpoints::new();
    set.replace(&[Instance::at("one")], echo);
    let replace = |address: &str| {
        let make = |instance: &Instance| {
            assert_ne!(instance.address(), "bad");
            echo(instance)
        };
        let replace = || set.replace(&[Instance::at("two"), Instance::at(address)], make);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(replace)).is_ok()
    };
    assert!(!replace("bad"));
    assert_eq!(set.len(), 1);
    assert!(replace("good"));
    assert_eq!(set.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn edge_5_2_an_empty_set_is_authoritative_if_the_resolver_says_so() {
    let (resolve, _) = sets([Ok(vec![Instance::at("one")]), Ok(Vec::new())]);
    let balance = Balance::resolving(resolve, echo, Config::new()).unwrap();
    let handle = balance.handle();
    let stats = settled(|| handle.stats(), |it| it.changes == 2).await;
    assert_eq!((stats.endpoints, stats.resolver.unwrap().known), (0, true));
}

/// Regression: each call waited for a second although the resolver had said that there is no endpoint.
#[tokio::test(start_paused = true)]
async fn edge_5_2_a_call_does_not_wait_for_an_endpoint_that_the_resolver_knows_not_to_be_there() {
    let (push, resolve) = pushed();
    let mut balance = Balance::resolving(resolve, echo, Config::new()).unwrap();
    let clock = Clock::default();
    let start = clock.now();
    // It waits for the first set.
    let waiting = tokio::spawn(tower::Service::call(&mut balance, ()));
    clock.sleep(ms(300)).await;
    assert!(!waiting.is_finished());
    push.send(Ok(Vec::new())).unwrap();
    let refused = waiting.await.unwrap().unwrap_err();
    let expected = r#"balancer has no endpoints (waited 300ms)"#;
    assert_eq!(refused.to_string(), expected);
    assert!(tower::Service::call(&mut balance, ()).await.is_err());
    assert_eq!((clock.now() - start, balance.handle().stats().refused), (ms(300), 2));
    // A failure of the resolver changes nothing about it, and the next set does.
    push.send(Err(StoreError::transient("no answer"))).unwrap();
    push.send(Ok(vec![Instance::at("one")])).unwrap();
    clock.sleep(ms(2000)).await;
    assert_eq!(tower::Service::call(&mut balance, ()).await.unwrap(), "one");
}

#[tokio::test(start_paused = true)]
async fn the_task_of_a_resolver_ends_with_the_last_clone_of_its_balancer() {
    let (resolve, held) = sets([Ok(vec![Instance::at("one")])]);
    let balance = Balance::resolving(resolve, echo, Config::new()).unwrap();
    let clone = balance.clone();
    Clock::default().sleep(ms(1)).await;
    drop(balance);
    Clock::default().sleep(ms(1)).await;
    assert_eq!(Arc::strong_count(&held), 3, "it waits in the resolver");
    drop(clone);
    Clock::default().sleep(ms(1)).await;
    assert_eq!(Arc::strong_count(&held), 1);
}

#[tokio::test(start_paused = true)]
async fn the_first_call_waits_for_the_first_set() {
    let mut balance =
        Balance::resolving(fixed([Instance::at("one")]), echo, Config::new()).unwrap();
    assert!(!balance.handle().stats().resolver.is_some_and(|it| it.known), "its task has not run");
    assert_eq!(soon(tower::Service::call(&mut balance, ())).await.unwrap(), "one");
}

#[tokio::test(start_paused = true)]
async fn edge_5_1_a_file_is_read_again_and_a_broken_one_changes_nothing() {
    let path = std::env::temp_dir().join(format!("buttress-discover-{}", std::process::id()));
    let write = |text: &str| {
        let next = path.with_extension("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(&next, &path).unwrap();
    };
    let mut resolve = file(&path).every(ms(1));
    let error = resolve.next().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Transient);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(std::error::Error::source(&error).is_some());

    write("a 10.0.0.1:1 weight=2");
    assert_eq!(resolve.next().await.unwrap(), [Instance::new("a", "10.0.0.1:1").with_weight(2)]);
    write("a 10.0.0.1:1 weight=2 # the same\n10.0.0.2:1");
    let error = resolve.next().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    assert!(
        error.to_string().ends_with("line 2: an instance needs an id and an address"),
        "{error}"
    );
    write("none");
    assert_eq!(resolve.next().await.unwrap(), []);
    write(&format!("a 10.0.0.1:1 # {}", "x".repeat(1 << 20)));
    assert!(resolve.next().await.unwrap_err().to_string().ends_with("larger than 1 MiB"));
    std::fs::remove_file(&path).unwrap();
}

/// The panic once ended the task that asks the resolver.
#[tokio::test(start_paused = true)]
async fn edge_5_1_a_resolver_whose_future_panics_when_it_is_dropped_is_asked_again() {
    struct Dropping(VecDeque<&'static str>);

    impl Resolve for Dropping {
        // Written out, because the drop of an async block would be a part of its last poll.
        #[allow(clippy::manual_async_fn)]
        fn next(&mut self) -> impl Future<Output = Set> + Send {
            let next = self.0.pop_front().map(|address| Ok(vec![Instance::at(address)]));
            armed(async move {
                match next {
                    Some(set) => set,
                    None => pending().await,
                }
            })
        }
    }

    let resolver = Dropping(["one", "two"].into());
    let mut balance = Balance::resolving(resolver, echo, Config::new()).unwrap();
    let handle = balance.handle();
    let stats = settled(|| handle.stats(), |it| it.changes == 2).await;
    assert_eq!((stats.resolve_failed, stats.endpoints), (0, 1));
    assert_eq!(soon(tower::Service::call(&mut balance, ())).await.unwrap(), "two");
}
