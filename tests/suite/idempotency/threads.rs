//! Many concurrent callers on real threads.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};

use buttress::idempotency::{Answers, Config, IdempotencyLayer, Key, MemoryStore};
use buttress::{AsError, Rng};
use tower::util::BoxCloneService;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::faulty::Faulty;
use crate::support::{AppError, ms};

const KEYS: u32 = 300;
const CALLERS: u32 = 8;

/// Several tasks request every key. Handlers fail, wait, and answer immediately at random. A lost
/// wake would be repaired only by the next poll, an hour later.
fn one_answer_for_each_key<M>(layer: impl Fn(Config) -> Layered<M> + Send + 'static)
where
    Layered<M>:
        Layer<Handler, Service: Service<u32, Response = u32, Error = AppError, Future: Send>>,
    <Layered<M> as Layer<Handler>>::Service: Clone + Send + 'static,
    <<Layered<M> as Layer<Handler>>::Service as Service<u32>>::Future: 'static,
{
    let (reply, replied) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(4).enable_time().build().unwrap();
        let hour = ms(3_600_000);
        let config = Config::new().poll_interval(hour).longest_wait(hour).lease(hour);
        let layer = layer(config);
        let rng = Rng::seeded(3);
        let done: Arc<Vec<AtomicU32>> = Arc::new((0..KEYS).map(|_| AtomicU32::new(0)).collect());
        let counted = done.clone();
        let service = layer.layer(Handler::new(service_fn(move |key: u32| {
            let (rng, counted) = (rng.clone(), counted.clone());
            async move {
                for _ in 0..rng.between(0, 2) {
                    tokio::task::yield_now().await;
                }
                if rng.between(0, 3) == 0 {
                    return Err(AppError::Broken("by chance"));
                }
                Ok(counted[key as usize].fetch_add(1, Ordering::SeqCst) + 1)
            }
        })));
        runtime.block_on(async {
            for key in 0..KEYS {
                let calls: Vec<_> =
                    (0..CALLERS).map(|_| tokio::spawn(service.clone().oneshot(key))).collect();
                for call in calls {
                    if let Ok(answer) = call.await.unwrap() {
                        assert_eq!(answer, 1, "key {key} has one answer");
                    }
                }
            }
        });
        assert!(done.iter().all(|done| done.load(Ordering::SeqCst) <= 1), "no work was done twice");
        let stats = layer.handle().stats();
        assert_eq!((stats.in_flight, stats.waiting), (0, 0));
        assert_eq!(stats.started + stats.replayed, u64::from(KEYS * CALLERS));
        reply.send(()).unwrap();
    });
    // The bound is reached only if the test fails.
    assert_ne!(replied.recv_timeout(ms(60_000)), Err(mpsc::RecvTimeoutError::Timeout), "it hangs");
    thread.join().unwrap();
}

type Handler = BoxCloneService<u32, u32, AppError>;
type Layered<M> = IdempotencyLayer<fn(&u32) -> Key, u32, Answers, AsError, M>;

fn key(key: &u32) -> Key {
    Key::new(&key.to_string()).unwrap()
}

#[test]
fn one_answer_for_each_key_of_a_store_that_answers_at_once() {
    one_answer_for_each_key(|config| {
        IdempotencyLayer::new(config, MemoryStore::default(), key as fn(&u32) -> Key).unwrap()
    });
}

#[test]
fn one_answer_for_each_key_of_a_store_that_is_waited_for() {
    one_answer_for_each_key(|config| {
        IdempotencyLayer::new(config, Faulty::default(), key as fn(&u32) -> Key).unwrap()
    });
}

#[test]
fn one_answer_for_each_key_of_detached_handlers() {
    one_answer_for_each_key(|config| {
        let by_key = key as fn(&u32) -> Key;
        IdempotencyLayer::new(config, MemoryStore::default(), by_key).unwrap().detached()
    });
}
