//! Caps of stored responses, and the lengths and errors of their bodies.

use http::header::CONTENT_LENGTH;

use super::replays::{headers, rich};
use super::*;

/// The layer stores a response up to the cap. It passes a longer one on whole and does not store
/// it.
#[tokio::test(start_paused = true)]
async fn the_cap_of_a_response_to_the_byte() {
    let says = |says: Option<u64>| {
        move |length: usize| {
            let chunks = [data(&"x".repeat(length - 2)), Step::Pending, data("y"), data("z")];
            Script { says, ..Script::new(chunks) }
        }
    };
    for says in [says(None), says(Some(u64::MAX))] {
        for (length, stored) in [(9, true), (10, true), (11, false), (12, false), (13, false)] {
            let layer =
                with(IdempotencyKeyLayer::config().rerun_if_not_kept(true)).response_cap(10);
            let body = format!("{}yz", "x".repeat(length - 2));
            let inner = Inner::new(move |_, _, _| Response::new(says(length)));
            assert_eq!(
                send(&layer, &inner, post("a", "7")).await.brief(),
                (200, body.as_str(), false)
            );
            let again = send(&layer, &inner, post("a", "7")).await;
            assert_eq!(again.brief(), (200, body.as_str(), stored), "{length}");
            assert_eq!(layer.handle().stats().failed, if stored { 0 } else { 2 });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_without_a_body_is_stored_under_a_cap_of_nothing() {
    let layer = layer().response_cap(0);
    let inner =
        Inner::new(|_, _, _| Response::builder().status(204).body(Script::default()).unwrap());
    assert!(!send(&layer, &inner, post("a", "7")).await.replayed());
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (204, "", true));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_breaks_off_does_so_for_the_client_and_its_work_is_not_done_again() {
    let inner = Inner::new(|n, _, _| match n {
        1 => Response::new(Script::new([data("half"), Step::Pending, Step::Error("broken pipe")])),
        _ => Response::new("whole".into()),
    });
    let layer = layer();
    let got = send(&layer, &inner, post("a", "7")).await;
    assert_eq!((got.brief(), got.error.as_deref()), ((200, "half", false), Some("broken pipe")));
    send(&layer, &inner, post("a", "7")).await.is_problem(422, "result-not-kept");
    assert_eq!(inner.calls(), 1);
    let inner = Inner::new(|n, _, _| match n {
        1 => Response::new(Script::new([data("half"), Step::Pending, Step::Error("broken pipe")])),
        _ => Response::new("whole".into()),
    });
    let layer = with(IdempotencyKeyLayer::config().rerun_if_not_kept(true));
    send(&layer, &inner, post("a", "7")).await;
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (200, "whole", false));
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (200, "whole", true));
}

/// A response that fails beyond the cap streams up to its error.
#[tokio::test(start_paused = true)]
async fn one_beyond_the_cap_streams_on_with_its_trailers_or_its_error() {
    let trailers = headers([("checksum", b"1")]);
    let end = trailers.clone();
    let inner = Inner::new(move |n, _, _| {
        let last = match n {
            1 => Step::Trailers(end.clone()),
            _ => Step::Error("broken pipe"),
        };
        Response::new(Script::new([data("12"), data("345"), Step::Pending, data("6"), last]))
    });
    let layer = with(IdempotencyKeyLayer::config().rerun_if_not_kept(true)).response_cap(3);
    let got = send(&layer, &inner, post("a", "7")).await;
    assert_eq!((got.body.as_str(), got.trailers, got.error), ("123456", Some(trailers), None));
    let got = send(&layer, &inner, post("a", "7")).await;
    assert_eq!((got.body.as_str(), got.error.as_deref()), ("123456", Some("broken pipe")));
}

/// Bodies report a known size: servers make a `Content-Length` of it.
#[tokio::test(start_paused = true)]
async fn bodies_say_how_long_they_are() {
    let ask = async |layer: &IdempotencyKeyLayer, inner: &Inner, method: Method| {
        let request = asking(method, "/", "a", "7".into());
        let body = layer.layer(inner.clone()).oneshot(request).await.unwrap().into_body();
        (body.size_hint().lower(), body.size_hint().exact(), body.is_end_stream())
    };
    let streams = Inner::new(|_, _, _| Response::new(Script::new([data("123"), data("45")])));
    let told = Inner::new(|_, _, _| Response::new("12345".into()));
    let empty = Inner::new(|_, _, _| Response::new(Script::default()));
    assert_eq!(ask(&layer(), &streams, Method::GET).await, (0, None, false));
    assert_eq!(ask(&layer(), &streams, Method::POST).await, (5, Some(5), false));
    assert_eq!(ask(&layer().response_cap(4), &streams, Method::POST).await, (5, None, false));
    assert_eq!(ask(&layer().response_cap(4), &told, Method::POST).await, (5, Some(5), false));
    assert_eq!(ask(&layer(), &empty, Method::POST).await, (0, Some(0), true));
    let with_trailers = Inner::new(rich);
    assert_eq!(ask(&layer(), &with_trailers, Method::POST).await, (7, None, false));
}

/// A `Content-Length` that the handler set is also true of the replay.
#[tokio::test(start_paused = true)]
async fn a_content_length_is_given_again() {
    let inner = Inner::new(|_, _, _| {
        Response::builder().header(CONTENT_LENGTH, 5).body(Script::from("12345")).unwrap()
    });
    let layer = layer();
    for replayed in [false, true] {
        let got = send(&layer, &inner, post("a", "7")).await;
        assert_eq!(
            (got.brief(), &got.headers[CONTENT_LENGTH]),
            ((200, "12345", replayed), &"5".parse().unwrap())
        );
    }
}
