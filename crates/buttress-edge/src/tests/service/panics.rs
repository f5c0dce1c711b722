//! Panics of a service outside of its future.

use std::future::Ready;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http_body::Frame;

use super::*;
use crate::LocalService;
use crate::body::PolledFrame;

/// A service whose clones panic while the flag is set.
struct Bomb(Arc<AtomicBool>);

impl Clone for Bomb {
    fn clone(&self) -> Self {
        assert!(!self.0.load(Ordering::Relaxed), "on purpose");
        Self(self.0.clone())
    }
}

impl Service<Request<Body>> for Bomb {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Ready<Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        std::future::ready(text("ok"))
    }
}

/// Regression: the panic cut the connection, and the request counted as one whose client had left.
#[tokio::test(start_paused = true)]
async fn edge_4_6_a_clone_of_a_service_that_panics_is_502_and_a_failure() {
    let armed = Arc::new(AtomicBool::new(false));
    let edge = edge(Route::new("all").to_service(Bomb(armed.clone())).public());
    assert_eq!(ask(&edge, &get("/")).await, (200, "ok".into()));
    armed.store(true, Ordering::Relaxed);
    assert_eq!(ask(&edge, &get("/")).await.0, 502);
    assert_eq!(edge.proxy.ready("all").look().await.status(), Status::Down);
    let expected = RouteStats { begun: 2, answered: 1, failed: 1, ..RouteStats::default() };
    assert_eq!(stats(&edge), expected);
}

/// A body that panics after its first frame and a pause, and when it is dropped.
struct Fused(u32);

impl http_body::Body for Fused {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        self.0 += 1;
        match self.0 {
            1 => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"one"))))),
            2 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => panic!("on purpose"),
        }
    }
}

impl Drop for Fused {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("on purpose");
        }
    }
}

/// Regression: as above.
#[tokio::test(start_paused = true)]
async fn edge_4_6_a_body_of_a_service_that_panics_is_a_failure() {
    let service = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Fused(0))));
    let edge = edge(Route::new("all").to_service(service).public());
    let mut client = edge.open();
    client.write(get("/")).await;
    let whole = client.read_to_end().await;
    assert!(whole.contains("one") && !whole.ends_with("0\r\n\r\n"), "{whole}");
    let expected = RouteStats { begun: 1, failed: 1, ..RouteStats::default() };
    assert_eq!(stats(&edge), expected);
}

/// Regression: a layer that polled the call again waited forever.
#[tokio::test]
async fn edge_4_6_a_call_that_is_polled_after_its_end_is_an_error() {
    let service = LocalService::new(Bomb(Arc::new(AtomicBool::new(false))));
    let mut call = service.call(Request::new(Body::empty()));
    assert!((&mut call).await.is_ok());
    let error = (&mut call).await.unwrap_err();
    assert!(error.to_string().contains("has ended already"), "{error}");
}
