//! Sets that a resolver finds.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex};

use buttress::balance::{Balance, Config, Stats};
use buttress::discover::{Instance, Resolve, file, fixed};
use buttress::{Clock, Event, Name, StoreError, StoreErrorKind};
use tower::{BoxError, service_fn};

use crate::support::{ms, soon};

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
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let observer = move |_: Name, event: &Event| seen.lock().unwrap().push(event.clone());
    let first = Ok(vec![Instance::at("one")]);
    let (resolve, _) = sets([first, failed(), failed(), failed(), Ok(vec![Instance::at("two")])]);
    let mut balance = Balance::resolving(resolve, echo, Config::new().observer(observer)).unwrap();
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
    assert_eq!(events.lock().unwrap().iter().filter(|it| **it == failures).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn edge_5_2_an_empty_set_is_authoritative_if_the_resolver_says_so() {
    let (resolve, _) = sets([Ok(vec![Instance::at("one")]), Ok(Vec::new())]);
    let balance = Balance::resolving(resolve, echo, Config::new()).unwrap();
    let handle = balance.handle();
    let stats = settled(|| handle.stats(), |it| it.changes == 2).await;
    assert_eq!((stats.endpoints, stats.resolver.unwrap().known), (0, true));
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
