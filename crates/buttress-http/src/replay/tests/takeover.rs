//! The handle that reads the stream between two attempts.

use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use buttress::retry::{Backoff, Config, RetryLayer};
use buttress::sidecar::{self, SidecarLayer};
use buttress::{Clock, Sleep};
use http::{Request, Response, StatusCode};
use tower::util::BoxCloneService;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::frame::PolledFrame;
use crate::{Attempt, HttpLayerExt};

#[test]
fn a_retry_takes_over_when_it_is_decided_and_not_only_when_it_reads() {
    let (mut first, mut second, wakes) = waiting_for_more(2);

    second.commit();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    second.commit();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    // This chunk would have exceeded the cap of the recording.
    assert_eq!(poll(&mut first), error(ReplayError::Displaced));
    assert!(second.can_repeat());
    for got in [data("ab"), data("cd"), Got::End] {
        assert_eq!(poll(&mut second), got);
    }
}

#[test]
fn one_that_cannot_be_sent_takes_nothing_over() {
    let mut first = ReplayBody::new(script([Data("ab"), Data("cd"), Data("ef")]), 2);
    let mut second = first.try_copy().unwrap();
    assert_eq!((poll(&mut first), poll(&mut first)), (data("ab"), data("cd")));
    second.commit();
    assert_eq!((poll(&mut first), poll(&mut first)), (data("ef"), Got::End));
    assert_eq!(poll(&mut second), error(ReplayError::NotRecorded));
}

/// Reads a body of the same stream when woken, as a scheduler that polls immediately may do.
struct Looks(ReplayBody<Script>);

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        assert!(self.0.is_replayable());
    }
}

#[test]
fn a_displaced_attempt_is_woken_without_the_lock() {
    for commits in [true, false] {
        let mut first = ReplayBody::new(script([Pending, Pending]), 64);
        let mut second = first.try_copy().unwrap();
        let waker = Waker::from(Arc::new(Looks(first.try_copy().unwrap())));
        assert_eq!(poll_with(&mut first, &waker), Got::Pending);
        if commits {
            second.commit();
        }
        assert_eq!(poll(&mut second), Got::Pending);
    }
}

/// Ten chunks of 50 bytes, one each 100 milliseconds, without an announced size.
struct Drip {
    left: u32,
    next: Pin<Box<Sleep>>,
}

const GAP: Duration = Duration::from_millis(100);

impl Drip {
    fn new() -> Self {
        Self { left: 10, next: Box::pin(Clock::default().sleep(GAP)) }
    }
}

impl Body for Drip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame<Infallible> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        std::task::ready!(self.next.as_mut().poll(cx));
        self.left -= 1;
        self.next = Box::pin(Clock::default().sleep(GAP));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 50])))))
    }
}

/// The ends of the attempts, in milliseconds since the upload began.
#[derive(Debug, PartialEq)]
struct Upload {
    /// The first attempt, which was answered 503 after 250 ms and continued to send.
    first: (u128, String),
    answered: (u128, StatusCode),
    received: String,
}

type Server = BoxCloneService<Request<ReplayBody<Drip>>, Response<String>, BoxError>;

/// Puts a [`Drip`] through `retry`, with a cap of two chunks.
async fn upload<L>(retry: L) -> Upload
where
    L: Layer<Server>,
    L::Service: Service<Request<ReplayBody<Drip>>, Response = Response<String>, Error = BoxError>,
{
    let clock = Clock::default();
    let start = clock.now();
    let (sent, first) = tokio::sync::oneshot::channel();
    let sent = Arc::new(Mutex::new(Some(sent)));
    let server = service_fn(move |request: Request<ReplayBody<Drip>>| {
        let sent = sent.clone();
        async move {
            if request.extensions().get() != Some(&Attempt(1)) {
                let received = request.into_body().collect().await?.to_bytes();
                return Ok(Response::new(received.len().to_string()));
            }
            let sent = sent.lock().unwrap().take().unwrap();
            tokio::spawn(async move {
                let ended = request.into_body().collect().await.unwrap_err();
                sent.send((Clock::default().now(), ended.to_string())).unwrap();
            });
            Clock::default().sleep(Duration::from_millis(250)).await;
            Ok::<_, BoxError>(Response::builder().status(503).body(String::new())?)
        }
    });
    let mut client = ReplayLayer::new(100).layer(retry.layer(Server::new(server)));
    let request = Request::put("/").body(Drip::new()).unwrap();
    let response = client.ready().await.unwrap().call(request).await.unwrap();
    let answered = ((clock.now() - start).as_millis(), response.status());
    let (ended, error) = first.await.unwrap();
    let first = ((ended - start).as_millis(), error);
    Upload { first, answered, received: response.into_body() }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_goes_on_after_its_answer_cannot_outgrow_the_cap_during_the_wait() {
    let config = Config::new().backoff(Backoff::fixed(Duration::from_secs(1)));
    let retry = RetryLayer::new(config.clone()).unwrap();
    let stamped = RetryLayer::new(config.clone()).unwrap().http().on_attempt(|_: &mut _, _| ());
    let sidecar = SidecarLayer::new(sidecar::Config::new().retry(config)).unwrap();
    let expected = Upload {
        first: (250, ReplayError::Displaced.to_string()),
        // Two chunks immediately after the wait, the third with them, then seven more.
        answered: (1950, StatusCode::OK),
        received: String::from("500"),
    };
    assert_eq!(upload(retry.http()).await, expected);
    assert_eq!(upload(stamped).await, expected);
    assert_eq!(upload(sidecar.http()).await, expected);
}
