//! The bodies of requests.

use std::future::poll_fn;

use super::*;

/// Answers with the request body.
fn echo() -> Inner {
    Inner::new(|_, _, body| Response::new(body.into()))
}

#[tokio::test(start_paused = true)]
async fn the_inner_service_gets_the_request_as_it_was() {
    let inner = Inner::new(|_, headers, body| {
        let key = headers[IDEMPOTENCY_KEY].clone();
        Response::builder().header("seen", key).body(body.into()).unwrap()
    });
    let chunks = || Script::new([data("one "), Step::Pending, data(""), data("two")]);
    let layer = layer();
    for body in [chunks(), chunks().says(7), "one two".into()] {
        let got = send(&layer, &inner, asking(Method::POST, "/", "\"a\"", body)).await;
        assert_eq!(
            (got.status, got.body.as_str(), &got.headers["seen"]),
            (200, "one two", &"\"a\"".parse().unwrap())
        );
    }
    assert_eq!(inner.calls(), 1, "however it came, it is the same body");
}

#[tokio::test(start_paused = true)]
async fn the_cap_of_a_request_to_the_byte() {
    for (length, says) in [(10, None), (10, Some(10)), (11, None), (11, Some(11)), (12, None)] {
        let (layer, inner) = (layer().request_cap(10), echo());
        let body = format!("{}yz", "x".repeat(length - 2));
        let chunks = [data(&body[..length - 2]), Step::Pending, data("y"), data("z")];
        let script = Script { says, ..Script::new(chunks) };
        let got = send(&layer, &inner, asking(Method::POST, "/", "a", script)).await;
        if length <= 10 {
            assert_eq!(got.brief(), (200, body.as_str(), false));
        } else {
            got.is_problem(413, "body-too-large");
            assert!(got.body.contains("may have at most 10 bytes"), "{got:?}");
        }
        assert_eq!(inner.calls(), u32::from(length <= 10));
        assert_eq!(layer.handle().stats().started, u64::from(length <= 10));
    }
}

/// The layer does not read a body that announces too many bytes.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_announced_as_too_large_is_refused_at_once() {
    let (layer, inner) = (layer().request_cap(10), echo());
    let body = Script::new([data("12345678901"), Step::Pending]).says(11);
    let service = layer.layer(inner.clone());
    let mut refused = Box::pin(service.oneshot(asking(Method::POST, "/", "a", body)));
    let polled = poll_fn(|cx| Poll::Ready(refused.as_mut().poll(cx))).await;
    let Poll::Ready(Ok(response)) = polled else { panic!("it waits for the body") };
    assert_eq!(response.status(), 413);
    // Without a key the layer does not read the body.
    let body = Script::new([data("12345678901")]).says(11);
    let got = send(&layer, &inner, Request::post("/").body(body).unwrap()).await;
    assert_eq!(got.brief(), (200, "12345678901", false));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_answered_400_and_leaves_its_key_free() {
    let (layer, inner) = (layer(), echo());
    let body = Script::new([data("half"), Step::Pending, Step::Error("connection reset")]);
    let got = send(&layer, &inner, asking(Method::POST, "/pay", "a", body)).await;
    got.is_problem(400, "body-unreadable");
    assert_eq!(inner.calls(), 0);
    assert_eq!(send(&layer, &inner, post("a", "whole")).await.brief(), (200, "whole", false));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_before_its_body_is_read_leaves_nothing() {
    let (layer, inner) = (layer(), echo());
    let body = Script::new([data("half"), Step::Pending, data("whole")]);
    let mut first = Box::pin(send(&layer, &inner, asking(Method::POST, "/pay", "a", body)));
    assert!(is_pending(&mut first));
    drop(first);
    let stats = layer.handle().stats();
    assert_eq!((stats.started, stats.in_flight), (0, 0));
    assert_eq!(send(&layer, &inner, post("a", "other")).await.brief(), (200, "other", false));
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_is_ignored_streams_and_does_not_count() {
    let (layer, inner) = (layer().ignore_payload().request_cap(1), echo());
    assert_eq!(send(&layer, &inner, post("a", "7 EUR")).await.brief(), (200, "7 EUR", false));
    assert_eq!(send(&layer, &inner, post("a", "8 EUR")).await.brief(), (200, "7 EUR", true));
    let other = asking(Method::POST, "/refund", "a", "7 EUR".into());
    send(&layer, &inner, other).await.is_problem(422, "key-reused");
    assert_eq!(inner.calls(), 1);
}

/// The layer calls the service that was polled ready, although it reads the body first.
#[tokio::test(start_paused = true)]
async fn the_service_that_was_ready_is_the_one_that_is_called() {
    #[derive(Default)]
    struct Strict {
        ready: bool,
    }
    impl Clone for Strict {
        fn clone(&self) -> Self {
            Self { ready: false }
        }
    }
    impl Service<Request<Script>> for Strict {
        type Response = Response<Script>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<Script>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            self.ready = true;
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Script>) -> Self::Future {
            assert!(std::mem::take(&mut self.ready), "called without being ready");
            std::future::ready(Ok(Response::new("served".into())))
        }
    }
    for layer in [layer(), layer().ignore_payload()] {
        let mut service = layer.layer(Strict::default());
        for key in ["a", "b"] {
            let body = Script::new([data("1"), Step::Pending, data("2")]);
            poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
            let response = service.call(asking(Method::POST, "/", key, body)).await.unwrap();
            assert_eq!(read(response).await.brief(), (200, "served", false));
        }
        // A refusal leaves the service ready.
        poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
        assert_eq!(service.call(post(",", "")).await.unwrap().status(), 400);
        assert_eq!(
            service.call(asking(Method::GET, "/", "", "".into())).await.unwrap().status(),
            200
        );
    }
}

/// A body that cannot be made of bytes, such as hyper's, in the wrapper that can.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_made_of_bytes_is_wrapped() {
    type Upload = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;
    let layer = layer();
    let service = tower::ServiceBuilder::new()
        .map_request(|request: Request<Upload>| request.map(BufferedBody::new))
        .layer(layer)
        .service_fn(async |request: Request<BufferedBody<Upload>>| {
            let (length, body) = (request.body().size_hint().exact(), request.into_body());
            let body = body.collect().await.unwrap().to_bytes();
            Ok::<_, Infallible>(
                Response::builder()
                    .header("length", length.unwrap_or(0))
                    .body(Script::from(body))
                    .unwrap(),
            )
        });
    for (body, replayed) in [("12345", false), ("12345", true)] {
        let request = post("a", body).map(Script::boxed_unsync);
        let got = read(service.clone().oneshot(request).await.unwrap()).await;
        assert_eq!(
            (got.brief(), &got.headers["length"]),
            ((200, "12345", replayed), &"5".parse().unwrap())
        );
    }
}
