use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use buttress::context;

use tower::{BoxError, Service, ServiceExt, service_fn};

use super::{Dispatch, Missing, NoHandler, Request};

macro_rules! requests {
    ($($name:ident -> $answer:ty, $error:ty;)+) => {$(
        #[derive(Debug)]
        struct $name;

        impl Request for $name {
            type Response = $answer;
            type Error = $error;
        }
    )+};
}

requests! {
    CreateOrder -> u64, OrderError;
    CancelOrder -> (), BoxError;
    FindOrder -> &'static str, BoxError;
    Boxed -> u64, BoxError;
}

#[derive(PartialEq, Debug, thiserror::Error)]
enum OrderError {
    #[error("sold out")]
    SoldOut,
    #[error(transparent)]
    NoHandler(#[from] NoHandler),
}

impl Request for Box<Boxed> {
    type Response = u64;
    type Error = BoxError;
}

fn name<T>() -> &'static str {
    std::any::type_name::<T>()
}

#[tokio::test]
async fn events_5_1_the_exact_type_decides() {
    let bus = Dispatch::builder()
        .on::<Boxed, _>(service_fn(async |_: Boxed| Ok(1)))
        .unwrap()
        .on::<Box<Boxed>, _>(service_fn(async |_: Box<Boxed>| Ok(2)))
        .unwrap()
        .on::<FindOrder, _>(service_fn(async |_: FindOrder| Ok("7")))
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(bus.send(Boxed).await.unwrap(), 1);
    assert_eq!(bus.clone().send(Box::new(Boxed)).await.unwrap(), 2);
    assert_eq!(bus.send(FindOrder).await.unwrap(), "7");
    assert_eq!(bus.handler::<Boxed>().unwrap().oneshot(Boxed).await.unwrap(), 1);
}

#[tokio::test]
async fn events_5_2_an_unknown_type_is_an_error_with_names() {
    let bus = Dispatch::builder()
        .on::<FindOrder, _>(service_fn(async |_: FindOrder| Ok("7")))
        .unwrap()
        .on::<Boxed, _>(service_fn(async |_: Boxed| Ok(1)))
        .unwrap()
        .build()
        .unwrap();
    let known = [name::<Boxed>(), name::<FindOrder>()];
    let OrderError::NoHandler(unknown) = bus.send(CreateOrder).await.unwrap_err() else { panic!() };
    assert_eq!((unknown.name, &unknown.known[..]), (name::<CreateOrder>(), &known[..]));
    let text = unknown.to_string();
    assert!(known.iter().all(|known| text.contains(known)) && text.contains("CreateOrder"));
    assert_eq!(bus.handler::<CreateOrder>().unwrap_err(), unknown);
    assert_eq!(bus.known(), known);
    let empty = Dispatch::builder().build().unwrap();
    let unknown = empty.send(CancelOrder).await.unwrap_err();
    let text = "register it with `on`; no request type has a handler";
    assert!(unknown.to_string().ends_with(text), "{unknown}");
}

#[test]
fn events_5_2_what_is_expected_is_checked_at_the_build() {
    let builder = || Dispatch::builder().expects::<FindOrder>().expects::<CancelOrder>();
    let Missing { names, known, .. } = builder().build().unwrap_err();
    assert_eq!(names, [name::<CancelOrder>(), name::<FindOrder>()]);
    assert_eq!(known, [""; 0]);
    let found = builder().on::<FindOrder, _>(service_fn(async |_: FindOrder| Ok("7"))).unwrap();
    let missing = found.build().unwrap_err();
    assert_eq!(
        (&missing.names[..], &missing.known[..]),
        (&[name::<CancelOrder>()][..], &[name::<FindOrder>()][..])
    );
    let text = missing.to_string();
    assert!(text.contains("CancelOrder") && text.contains("FindOrder"), "{text}");
}

#[tokio::test]
async fn events_5_3_a_second_handler_is_an_error_unless_it_replaces() {
    let first = || {
        Dispatch::builder()
            .on::<FindOrder, _>(service_fn(async |_: FindOrder| Ok("first")))
            .unwrap()
    };
    let second = || service_fn(async |_: FindOrder| Ok("second"));
    let duplicate = first().on::<FindOrder, _>(second()).unwrap_err();
    assert_eq!(duplicate.name, name::<FindOrder>());
    assert!(duplicate.to_string().contains("FindOrder"));
    let bus = first().replace::<FindOrder, _>(second()).unwrap().build().unwrap();
    assert_eq!(bus.send(FindOrder).await.unwrap(), "second");
    let nothing = Dispatch::builder().replace::<FindOrder, _>(second()).unwrap_err();
    assert_eq!(nothing.name, name::<FindOrder>());
}

#[tokio::test]
async fn events_5_4_errors_of_a_handler_come_out_unchanged() {
    let sold_out = service_fn(async |_: CreateOrder| Err(OrderError::SoldOut));
    let cancel = service_fn(async |_: CancelOrder| Err(OrderError::SoldOut.into()));
    let bus = Dispatch::builder()
        .on::<CreateOrder, _>(sold_out)
        .unwrap()
        .on::<CancelOrder, _>(cancel)
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(bus.send(CreateOrder).await, Err(OrderError::SoldOut));
    let boxed = bus.send(CancelOrder).await.unwrap_err();
    assert_eq!(*boxed.downcast::<OrderError>().unwrap(), OrderError::SoldOut);
}

/// A service that is ready at its second poll, and fails to be ready once it has been called.
#[derive(Clone)]
struct Slow {
    polled: bool,
    calls: Arc<AtomicUsize>,
}

impl Service<CreateOrder> for Slow {
    type Response = u64;
    type Error = OrderError;
    type Future = std::future::Ready<Result<u64, OrderError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), OrderError>> {
        if self.calls.load(Ordering::Relaxed) > 0 {
            return Poll::Ready(Err(OrderError::SoldOut));
        }
        if std::mem::replace(&mut self.polled, true) {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, _: CreateOrder) -> Self::Future {
        assert!(self.polled, "called before it was ready");
        std::future::ready(Ok(self.calls.fetch_add(1, Ordering::Relaxed) as u64))
    }
}

#[tokio::test]
async fn a_handler_is_called_when_it_is_ready() {
    let calls = Arc::new(AtomicUsize::new(0));
    let slow = Slow { polled: false, calls: calls.clone() };
    let bus = Dispatch::builder().on::<CreateOrder, _>(slow).unwrap().build().unwrap();
    assert_eq!(bus.send(CreateOrder).await, Ok(0));
    assert_eq!(bus.send(CreateOrder).await, Err(OrderError::SoldOut), "error of readiness");
    calls.store(0, Ordering::Relaxed);
    let handler = bus.handler::<CreateOrder>().unwrap();
    assert_eq!(handler.clone().oneshot(CreateOrder).await, Ok(0));
    assert_eq!(handler.oneshot(CreateOrder).await, Err(OrderError::SoldOut));
}

#[tokio::test]
async fn a_handler_runs_in_the_context_of_the_caller() -> Result<(), Infallible> {
    let seen = service_fn(async |_: Boxed| {
        Ok(context::Context::peek(|context| context.correlation().is_some()).into())
    });
    let bus = Dispatch::builder().on::<Boxed, _>(seen).unwrap().build().unwrap();
    let context = context::Context::new().with_correlation("order-7".parse().unwrap());
    assert_eq!(context.scope(bus.send(Boxed)).await.unwrap(), 1);
    assert_eq!(bus.send(Boxed).await.unwrap(), 0);
    Ok(())
}
