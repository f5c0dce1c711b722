//! Sagas through their public API, in memory, under a paused clock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::saga::{Config, Definition, Executor, Status};
use tower::{BoxError, service_fn};

type Log = Arc<Mutex<Vec<String>>>;

#[tokio::test(start_paused = true)]
async fn outputs_go_on_to_the_steps_that_need_them() {
    let mut saga = Definition::<u32>::builder("sum", 1);
    let double = service_fn(async |call: buttress::saga::Call<u32>| {
        Ok::<u64, BoxError>(u64::from(call.into_request()) * 2)
    });
    let first = saga.step("first").action((), double, |input: &u32, ()| *input).add();
    let add = service_fn(async |call: buttress::saga::Call<u64>| {
        Ok::<String, BoxError>(format!("{}", call.into_request() + 1))
    });
    let second =
        saga.step("second").needs(first).action((), add, |_: &u32, first: Arc<u64>| *first).add();
    let sagas = Executor::in_memory(saga.build().unwrap(), Config::new()).unwrap();
    let report = sagas.run_to_end(20).await.unwrap();
    assert_eq!(report.status(), Status::Completed);
    assert_eq!(report.output(second).unwrap().as_str(), "41");
    assert_eq!(*report.output(first).unwrap(), 40);
}

#[tokio::test(start_paused = true)]
async fn failure_undoes() {
    let log = Log::default();
    let mut saga = Definition::<u32>::builder("sum", 1);
    for name in ["a", "b", "c"] {
        let seen = log.clone();
        let act = service_fn(move |call: buttress::saga::Call<u32>| {
            seen.lock().unwrap().push(format!("do {name}"));
            async move {
                if name == "c" {
                    Err::<u32, BoxError>("no".into())
                } else {
                    Ok(call.into_request())
                }
            }
        });
        let seen = log.clone();
        let undo = service_fn(move |_: buttress::saga::Call<Option<Arc<u32>>>| {
            seen.lock().unwrap().push(format!("undo {name}"));
            async { Ok::<(), BoxError>(()) }
        });
        saga.step(name)
            .timeout(Duration::from_secs(1))
            .action((), act, |input: &u32, ()| *input)
            .undo((), undo, |_: &u32, (), output| output)
            .add();
    }
    let sagas = Executor::in_memory(saga.build().unwrap(), Config::new()).unwrap();
    let report = sagas.run_to_end(20).await.unwrap();
    assert_eq!(report.status(), Status::Compensated);
    assert_eq!(*log.lock().unwrap(), ["do a", "do b", "do c", "undo c", "undo b", "undo a"]);
    assert_eq!(report.reason(), Some("c: no"));
}
