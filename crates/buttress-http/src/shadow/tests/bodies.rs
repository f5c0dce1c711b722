//! What a shadow does with the bodies of requests and responses.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use buttress::retry::RetryLayer;
use buttress::shadow::{Compare, Comparison};
use bytes::Buf;
use http::{HeaderMap, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tower::{BoxError, ServiceBuilder};

use super::*;
use crate::{HttpLayerExt, ReplayBody, ReplayLayer};

/// A response with these headers, through the layer.
async fn response(headers: &[(&'static str, &'static str)]) -> Answered {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let service = service_fn(move |_: ()| {
        let mut response = Response::new(Full::<Bytes>::default());
        *response.headers_mut() = map.clone();
        std::future::ready(Ok::<_, Infallible>(response))
    });
    DigestBodyLayer.layer(service).oneshot(()).await
}

type Answered = Result<Response<DigestBody<Full<Bytes>>>, Infallible>;

#[tokio::test(start_paused = true)]
async fn edge_3_10_headers_that_connection_names_are_ignored_and_no_others() {
    let cases: [(&[_], &[_], _); 4] = [
        (&[("x-hop", "1"), ("connection", "x-hop")], &[("x-hop", "2")], Comparison::Same),
        (&[("x-hop", "1")], &[("connection", "close, X-Hop")], Comparison::Same),
        (&[("x-hop", "1")], &[("x-hop", "2")], different()),
        (&[("x-hop", "1"), ("connection", "x-hops")], &[("x-hop", "2")], different()),
    ];
    for (primary, mirror, expected) in cases {
        let rules = CompareResponses::new();
        let note = rules.note(&response(primary).await);
        assert_eq!(rules.compare(note, response(mirror).await).await, expected, "{primary:?}");
    }
}

fn different() -> Comparison {
    Comparison::Different(Mismatch::new("header x-hop"))
}

/// Data that counts how often it is looked at.
#[derive(Clone)]
struct Watched(Bytes, Arc<AtomicUsize>);

impl Buf for Watched {
    fn remaining(&self) -> usize {
        self.0.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.0.advance(count);
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_body_of_a_mirrored_request_is_hashed() {
    for (share, same) in [(0.0, 0), (1.0, 1)] {
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = looks.clone();
        let side = service_fn(move |_: Request<Full<Bytes>>| {
            let frame = Watched(Bytes::from_static(b"3 orders"), counted.clone());
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(frame))))
        });
        let (primary, mirror) = (DigestBodyLayer.layer(side.clone()), DigestBodyLayer.layer(side));
        let shadow = Shadow::new(primary, mirror, SafeRequests, Config::new().share(share));
        let shadow = shadow.unwrap().judge(ByResponse::new()).compare(CompareResponses::new());
        let handle = shadow.handle();
        let mut body = shadow.oneshot(request(Method::GET, 0)).await.unwrap().into_body();
        while body.frame().await.is_some() {}
        while handle.stats().running > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(handle.stats().same, same);
        assert_eq!(looks.load(Ordering::Relaxed) > 0, same > 0, "share {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_digest_that_is_wanted_after_the_first_frame_makes_the_bodies_incomparable() {
    let side = service_fn(async |_: ()| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("3 orders")))
    });
    let mut side = DigestBodyLayer.layer(side);
    let mut primary = (&mut side).oneshot(()).await.unwrap();
    assert!(primary.body_mut().frame().await.is_some());
    let rules = CompareResponses::new();
    let note = Compare::<_, Infallible>::note(&rules, &Ok(primary));
    let mirror = side.oneshot(()).await;
    assert_eq!(rules.compare(note, mirror).await, Comparison::Incomparable);
}

/// A body that announces a length, or none, and that does not say that a frame is the last one.
struct Open(VecDeque<Frame<Bytes>>, Option<u64>);

impl Body for Open {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.0.pop_front();
        let length = frame.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len);
        self.1 = self.1.map(|left| left - length as u64);
        Poll::Ready(frame.map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        self.1.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// Regression: a connection reads nothing after the trailers and after the announced length. The answers were
/// incomparable.
#[tokio::test(start_paused = true)]
async fn edge_3_10_a_body_that_is_dropped_after_its_trailers_or_its_announced_length_is_compared() {
    let open = async |frames: &[Frame<Bytes>], announced| {
        let frames = frames.iter().map(|frame| match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Frame::data(data.clone()),
            (_, trailers) => Frame::trailers(trailers.unwrap().clone()),
        });
        let mut body = Some(Open(frames.collect(), announced));
        let service = service_fn(move |_: ()| {
            std::future::ready(Ok::<_, Infallible>(Response::new(body.take().unwrap())))
        });
        DigestBodyLayer.layer(service).oneshot(()).await
    };
    let data = || Frame::data(Bytes::from_static(b"ok"));
    let trailers = || Frame::trailers(HeaderMap::from_iter([(header::ETAG, "1".parse().unwrap())]));
    for (frames, announced, expected) in [
        (&[data(), trailers()][..], None, Comparison::Same),
        (&[data()], Some(2), Comparison::Same),
        (&[data()], Some(3), Comparison::Incomparable),
        (&[data()], None, Comparison::Incomparable),
    ] {
        let rules = CompareResponses::new();
        let mut primary = open(frames, announced).await;
        let note = rules.note(&primary);
        for _ in frames {
            primary.as_mut().unwrap().body_mut().frame().await.unwrap().unwrap();
        }
        drop(primary);
        let mirror = open(&[data(), trailers()], None).await;
        assert_eq!(rules.compare(note, mirror).await, expected, "{frames:?} {announced:?}");
    }
}

type Recorded = ReplayBody<Full<Bytes>>;

/// What the client gets: the status, and the request body as the service received it.
type Got = (u16, Bytes);

/// Sends a request through recording, retry and shadow. The first attempt fails, and may leave the body unread.
async fn retried(share: f64, body: &'static str, first_reads: bool) -> (Got, Stats) {
    let calls = Arc::new(AtomicUsize::new(0));
    let primary = service_fn(move |request: Request<Recorded>| {
        let is_first = calls.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if is_first && !first_reads {
                return answer(StatusCode::SERVICE_UNAVAILABLE, Bytes::new());
            }
            match request.into_body().collect().await {
                Ok(_) if is_first => answer(StatusCode::SERVICE_UNAVAILABLE, Bytes::new()),
                Ok(body) => answer(StatusCode::OK, body.to_bytes()),
                Err(error) => answer(StatusCode::BAD_REQUEST, Bytes::from(error.to_string())),
            }
        }
    });
    let mirror = service_fn(async |request: Request<Recorded>| {
        answer(StatusCode::OK, request.into_body().collect().await?.to_bytes())
    });
    let config = Config::new().share(share);
    let shadow = Shadow::new(primary, mirror, SafeRequests, config).unwrap();
    let handle = shadow.handle();
    let retry = RetryLayer::default().http();
    let client = ServiceBuilder::new().layer(ReplayLayer::new(64)).layer(retry).service(shadow);
    let request = Request::get("/").body(Full::from(body)).unwrap();
    let response = client.oneshot(request).await.unwrap();
    while handle.stats().running > 0 {
        tokio::task::yield_now().await;
    }
    ((response.status().as_u16(), response.into_body()), handle.stats())
}

fn answer(status: StatusCode, body: Bytes) -> Result<Response<Bytes>, BoxError> {
    Ok(Response::builder().status(status).body(body)?)
}

#[tokio::test(start_paused = true)]
async fn edge_3_7_a_mirror_that_reads_its_copy_takes_the_body_from_no_attempt() {
    // Whether the first attempt reads the body, and how many of the two attempts are mirrored.
    for (body, first_reads, mirrored) in
        [("", false, 2), ("", true, 2), ("q", false, 1), ("q", true, 2)]
    {
        let (unmirrored, _) = retried(0.0, body, first_reads).await;
        assert_eq!(unmirrored, (200, Bytes::from(body)));
        let (got, stats) = retried(1.0, body, first_reads).await;
        assert_eq!(got, unmirrored, "{body:?} {first_reads}");
        assert_eq!((stats.mirrored, stats.dropped), (mirrored, 2 - mirrored), "{body:?}");
        assert_eq!(stats.not_compared, mirrored);
    }
}

#[tokio::test(start_paused = true)]
async fn edge_3_7_a_primary_that_streams_its_request_into_its_answer_is_not_disturbed() {
    let echo = service_fn(async |request: Request<Recorded>| {
        Ok::<_, BoxError>(Response::new(request.into_body()))
    });
    for (body, ends) in [("hello", (0, 1)), ("", (1, 0))] {
        let shadow = Shadow::new(echo, echo, SafeRequests, Config::new().share(1.0)).unwrap();
        let handle = shadow.handle();
        let client = ServiceBuilder::new().layer(ReplayLayer::new(64)).service(shadow);
        let request = Request::get("/").body(Full::from(body)).unwrap();
        let response = client.oneshot(request).await.unwrap();
        while handle.stats().running > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
        assert_eq!((handle.stats().mirrored, handle.stats().dropped), ends);
    }
}
