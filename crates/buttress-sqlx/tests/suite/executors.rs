//! Whole sagas on each database.

use std::sync::Arc;

use buttress::{Codec, CodecError, Format};
use buttress_durable::saga::{Builder, Call, Config, Definition, Executor, Status};
use tower::{BoxError, service_fn};

use crate::db::{Db, on_each_database};

on_each_database! {
    long_error_texts_wedge_no_saga
}

/// Numbers as bytes.
#[derive(Clone)]
pub(crate) struct Bytes;

impl Format for Bytes {
    type Encoded = Vec<u8>;
    const NAME: &'static str = "bytes";
}

impl Codec<u32> for Bytes {
    fn encode(&self, value: &Arc<u32>) -> Result<Vec<u8>, CodecError> {
        Ok(value.to_be_bytes().to_vec())
    }

    fn decode(&self, value: &Vec<u8>) -> Result<Arc<u32>, CodecError> {
        let bytes = value.as_slice().try_into();
        bytes
            .map(|bytes| Arc::new(u32::from_be_bytes(bytes)))
            .map_err(|error| CodecError::new(Self::NAME, error))
    }
}

fn refusing(steps: usize, characters: usize) -> Builder<u32, Bytes> {
    let mut saga = Definition::<u32>::builder("order", 3).codec(Bytes);
    saga.parallel(|saga| {
        for step in 0..steps {
            let refuse = service_fn(move |_: Call<u32>| async move {
                Err::<u32, BoxError>("x".repeat(characters).into())
            });
            saga.step(format!("s{step}"))
                .action((), refuse, |input: &u32, ()| *input)
                .definite(|_| true)
                .add();
        }
    });
    saga
}

async fn long_error_texts_wedge_no_saga<D: Db>(db: D) {
    for (steps, characters) in [(1, 17 << 20), (16, 2 << 20)] {
        let saga = refusing(steps, characters).build().unwrap();
        let sagas = Executor::new(saga, db.store().clone(), Config::new()).unwrap();
        let report = sagas.run_to_end(7).await.unwrap();
        assert_eq!(report.status(), Status::Compensated);
        assert_eq!(report.reason().unwrap().chars().count(), 2000);
        let tree = sagas.state(report.id()).await.unwrap().unwrap();
        assert_eq!(tree.reason.as_deref(), report.reason());
        assert!(tree.steps.iter().all(|step| step.note.as_ref().unwrap().len() == 2000));
        sagas.shut_down().await.unwrap();
    }
}
