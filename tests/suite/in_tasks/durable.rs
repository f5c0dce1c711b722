//! Relays and executors of sagas in a task, over services that are boxed and whose errors are boxed.

use buttress::Clock;
use buttress_durable::outbox::{self, Message, Outbox, Relay};
use buttress_durable::saga::{self, Call, Definition, Executor, Status};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, service_fn};

#[tokio::test(start_paused = true)]
async fn a_relay() {
    let outbox = Outbox::new(outbox::BoxStore::new(outbox::MemoryStore::new(Clock::default())));
    let publisher = BoxCloneSyncService::new(service_fn(async |_: Message| Ok::<(), BoxError>(())));
    let relay = Relay::new(&outbox, publisher, outbox::Config::new()).unwrap();
    let handle = relay.handle();
    let task = tokio::spawn(async move { relay.run().await });
    handle.shut_down().await;
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_saga() {
    let mut order = Definition::<u32>::builder("order", 1);
    let double = service_fn(async |call: Call<u32>| Ok::<u32, BoxError>(2 * call.into_request()));
    let double = BoxCloneSyncService::new(double);
    order.step("double").action((), double, |input: &u32, ()| *input).add();
    let sagas = Executor::in_memory(order.build().unwrap(), saga::Config::new()).unwrap();
    let report = tokio::spawn(async move { sagas.run_to_end(7).await }).await.unwrap();
    assert_eq!(report.unwrap().status(), Status::Completed);
}
