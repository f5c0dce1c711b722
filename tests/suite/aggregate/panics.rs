//! Parts whose clones and destructors panic.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use buttress::aggregate::{Aggregate, Missing, Parts};
use tower::{BoxError, Service, ServiceExt, service_fn};

use super::within;
use crate::support::{begin, is_pending, ms, panic_of, soon};

/// A future that answers, fails or hangs, and panics when it is dropped.
struct Fragile(Step);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Answer,
    Fail,
    Hang,
}

impl Future for Fragile {
    type Output = Result<u32, BoxError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0 {
            Step::Answer => Poll::Ready(Ok(1)),
            Step::Fail => Poll::Ready(Err("down".into())),
            Step::Hang => Poll::Pending,
        }
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "destructor");
    }
}

/// A service whose clone panics, if `clones` is false, or whose calls are fragile.
struct Part {
    step: Step,
    clones: bool,
}

impl Clone for Part {
    fn clone(&self) -> Self {
        assert!(self.clones, "clone");
        Self { ..*self }
    }
}

impl Service<u32> for Part {
    type Response = u32;
    type Error = BoxError;
    type Future = Fragile;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> Fragile {
        Fragile(self.step)
    }
}

fn fragile(step: Step) -> Part {
    Part { step, clones: true }
}

/// The answer of a page whose order takes a second, and fails if `fails`.
async fn page(part: Part, fails: bool) -> Result<Parts<(u32, Value)>, BoxError> {
    let order = service_fn(move |id: u32| async move {
        buttress::Clock::default().sleep(ms(1_000)).await;
        if fails { Err(BoxError::from("no order")) } else { Ok(id) }
    });
    let page = Aggregate::builder().required("order", order).optional("fragile", part);
    soon(page.config(within(5_000)).build().unwrap().oneshot(7)).await
}

type Value = Result<u32, Missing<BoxError>>;

#[tokio::test(start_paused = true)]
async fn edge_4_3_an_optional_part_whose_destructor_panics_ends_no_other_part() {
    let parts = page(fragile(Step::Answer), false).await.unwrap();
    assert!(matches!(parts.values, (7, Ok(1))), "the answer stands: {:?}", parts.values);
    let parts = page(fragile(Step::Fail), false).await.unwrap();
    assert!(matches!(parts.values, (7, Err(Missing::Failed(_)))));
    let parts = page(fragile(Step::Hang), false).await.unwrap();
    assert!(matches!(parts.values, (7, Err(Missing::TimedOut))));
}

#[tokio::test(start_paused = true)]
async fn edge_4_2_a_destructor_that_panics_does_not_replace_the_error_of_a_required_part() {
    for step in [Step::Answer, Step::Fail, Step::Hang] {
        let error = page(fragile(step), true).await.unwrap_err();
        assert_eq!(error.to_string(), "no order", "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_4_3_an_optional_part_whose_clone_panics_is_missing() {
    let parts = page(Part { step: Step::Answer, clones: false }, false).await.unwrap();
    assert!(matches!(parts.values, (7, Err(Missing::Panicked))));
    assert_eq!(parts.missing(), ["fragile".into()]);
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_a_required_part_stands_if_its_destructor_panics() {
    let page = Aggregate::builder().required("order", fragile(Step::Answer)).build().unwrap();
    assert_eq!(soon(page.oneshot(7)).await.unwrap().values, (1,));
    let page = Aggregate::builder().required("order", Part { step: Step::Answer, clones: false });
    let mut page = page.build().unwrap();
    assert_eq!(panic_of(|| is_pending(&mut begin(&mut page, 7))), "clone");
}
