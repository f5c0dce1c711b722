use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full};
use tower::BoxError;

use super::*;
use crate::RepeatableBody;
use crate::frame::PolledFrame;

mod mirror;
mod stack;
mod takeover;

enum Step {
    Data(&'static str),
    Trailers(HeaderMap),
    /// Returns `Pending` once.
    Pending,
    Error,
    Panic,
}
use Step::{Data, Error, Panic, Pending, Trailers};

/// A stream that follows a script, and fails the test if it is polled after its end.
struct Script {
    steps: VecDeque<Step>,
    hint: SizeHint,
    over: bool,
}

fn script(steps: impl IntoIterator<Item = Step>) -> Script {
    Script { steps: steps.into_iter().collect(), hint: SizeHint::new(), over: false }
}

impl Body for Script {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> PolledFrame<BoxError> {
        assert!(!self.over, "polled after its end");
        Poll::Ready(match self.steps.pop_front() {
            Some(Data(data)) => Some(Ok(Frame::data(Bytes::from_static(data.as_bytes())))),
            Some(Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Pending) => return Poll::Pending,
            Some(Error) => {
                self.over = true;
                Some(Err("the upload broke".into()))
            }
            Some(Panic) => panic!("the stream panicked"),
            None => {
                self.over = true;
                None
            }
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The outcome of one poll.
#[derive(Debug, PartialEq)]
enum Got {
    Data(String),
    Trailers(HeaderMap),
    Pending,
    Error(String),
    End,
}

fn data(text: &str) -> Got {
    Got::Data(text.to_owned())
}

fn error(text: impl Into<BoxError>) -> Got {
    Got::Error(text.into().to_string())
}

fn poll_with<B>(body: &mut ReplayBody<B>, waker: &Waker) -> Got
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    match Pin::new(body).poll_frame(&mut Context::from_waker(waker)) {
        Poll::Pending => Got::Pending,
        Poll::Ready(None) => Got::End,
        Poll::Ready(Some(Err(error))) => Got::Error(error.to_string()),
        Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
            Ok(data) => Got::Data(String::from_utf8(data.to_vec()).unwrap()),
            Err(frame) => Got::Trailers(frame.into_trailers().unwrap()),
        },
    }
}

fn poll<B>(body: &mut ReplayBody<B>) -> Got
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    poll_with(body, Waker::noop())
}

fn checksum() -> HeaderMap {
    HeaderMap::from_iter([(http::header::ETAG, "\"sum\"".parse().unwrap())])
}

#[test]
fn a_body_that_was_read_to_its_end_is_sent_again_whole() {
    let mut first = ReplayBody::new(script([Data("ab"), Pending, Data("cd")]), 64);
    let mut second = first.try_copy().unwrap();
    for got in [data("ab"), Got::Pending, data("cd"), Got::End, Got::End] {
        assert_eq!(poll(&mut first), got);
    }
    drop(first);
    assert!(second.can_repeat());
    let mut third = second.try_copy().unwrap();
    for again in [&mut second, &mut third] {
        for got in [data("abcd"), Got::End, Got::End] {
            assert_eq!(poll(again), got);
        }
    }
}

#[test]
fn a_body_dropped_halfway_is_replayed_and_then_goes_on() {
    let mut first = ReplayBody::new(script([Data("ab"), Data("cd"), Data("ef")]), 64);
    let mut second = first.try_copy().unwrap();
    assert_eq!(poll(&mut first), data("ab"));
    drop(first);
    let mut third = second.try_copy().unwrap();
    assert_eq!(poll(&mut second), data("ab"));
    assert_eq!(poll(&mut second), data("cd"));
    drop(second);
    for got in [data("abcd"), data("ef"), Got::End] {
        assert_eq!(poll(&mut third), got);
    }
}

#[test]
fn a_body_dropped_unread_is_sent_as_if_it_were_the_first() {
    let first = ReplayBody::new(script([Data("ab"), Data("cd")]), 64);
    let mut second = first.try_copy().unwrap();
    drop(first);
    for got in [data("ab"), data("cd"), Got::End] {
        assert_eq!(poll(&mut second), got);
    }
}

#[test]
fn exactly_the_cap_is_kept_and_one_byte_more_is_not() {
    for (tail, kept) in [("d", true), ("de", false)] {
        let mut first = ReplayBody::new(script([Data("abc"), Data(tail), Data("")]), 4);
        let mut second = first.try_copy().unwrap();
        for got in [data("abc"), data(tail), data(""), Got::End] {
            assert_eq!(poll(&mut first), got, "the first attempt sees everything");
        }
        assert_eq!((second.can_repeat(), second.try_copy().is_some()), (kept, kept));
        let replayed = if kept { data("abcd") } else { error(ReplayError::NotRecorded) };
        assert_eq!(poll(&mut second), replayed);
        assert_eq!(poll(&mut second), Got::End);
    }
}

#[test]
fn without_a_cap_only_an_empty_body_is_kept() {
    let mut empty = ReplayBody::new(script([]), 0);
    let mut again = empty.try_copy().unwrap();
    assert_eq!((poll(&mut empty), poll(&mut again)), (Got::End, Got::End));
    let mut full = ReplayBody::new(script([Data("a")]), 0);
    let again = full.try_copy().unwrap();
    assert!(again.can_repeat(), "nothing is known yet");
    assert_eq!(poll(&mut full), data("a"));
    assert!(!again.can_repeat());
}

#[test]
fn a_body_that_announces_more_than_the_cap_is_never_recorded() {
    let text = Bytes::from_static(b"abcde");
    assert!(ReplayBody::new(Full::new(text.clone()), 5).try_copy().is_some());
    let mut long = ReplayBody::new(Full::new(text), 4);
    assert!(long.try_copy().is_none());
    assert_eq!(poll(&mut long), data("abcde"));
}

#[test]
fn nothing_is_recorded_for_nobody() {
    let mut only = ReplayBody::new(script([Data("ab"), Data("cd")]), 64);
    let spare = only.try_copy().unwrap();
    assert_eq!(poll(&mut only), data("ab"));
    assert!(only.is_replayable());
    drop(spare);
    assert_eq!(poll(&mut only), data("cd"));
    assert!(!only.is_replayable());
    assert!(only.try_copy().is_none());
    assert_eq!(poll(&mut only), Got::End);
}

#[test]
fn trailers_are_replayed_too() {
    let mut first = ReplayBody::new(script([Data("ab"), Trailers(checksum())]), 2);
    let mut second = first.try_copy().unwrap();
    let mut third = first.try_copy().unwrap();
    assert_eq!(poll(&mut first), data("ab"));
    // The second handle gets them from the stream, the third from the recording.
    for again in [&mut second, &mut third] {
        for got in [data("ab"), Got::Trailers(checksum()), Got::End] {
            assert!(got == Got::End || !again.is_end_stream());
            assert_eq!(poll(again), got);
        }
    }
}

#[test]
fn an_error_of_the_stream_ends_every_attempt() {
    let mut first = ReplayBody::new(script([Data("ab"), Error]), 64);
    let mut second = first.try_copy().unwrap();
    for got in [data("ab"), error("the upload broke"), Got::End] {
        assert_eq!(poll(&mut first), got);
    }
    assert!(!second.can_repeat());
    assert!(first.try_copy().is_none());
    for got in [data("ab"), error(ReplayError::BrokenOff), Got::End] {
        assert!(got == Got::End || !second.is_end_stream());
        assert_eq!(poll(&mut second), got);
    }
}

#[test]
fn a_panic_of_the_stream_ends_every_attempt() {
    let mut first = ReplayBody::new(script([Data("ab"), Panic, Data("cd")]), 64);
    let mut second = first.try_copy().unwrap();
    assert_eq!(poll(&mut first), data("ab"));
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut first))).is_err());
    assert_eq!(poll(&mut first), error(ReplayError::BrokenOff));
    assert!(!second.can_repeat());
    assert_eq!(poll(&mut second), data("ab"));
    assert_eq!(poll(&mut second), error(ReplayError::BrokenOff));
}

/// Returns two attempts. The first one has read "ab", and waits for "cd".
fn waiting_for_more(cap: usize) -> (ReplayBody<Script>, ReplayBody<Script>, Arc<Wakes>) {
    let mut first = ReplayBody::new(script([Data("ab"), Pending, Data("cd")]), cap);
    let second = first.try_copy().unwrap();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    assert_eq!(poll_with(&mut first, &waker), data("ab"));
    assert_eq!(poll_with(&mut first, &waker), Got::Pending);
    (first, second, wakes)
}

#[test]
fn a_later_attempt_displaces_one_that_still_waits_for_the_stream() {
    let (mut first, mut second, wakes) = waiting_for_more(64);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 0);

    assert_eq!(poll(&mut second), data("ab"));
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert!(!first.is_end_stream());
    assert_eq!(poll(&mut first), error(ReplayError::Displaced));
    assert_eq!(poll(&mut first), Got::End);
    assert_eq!(poll(&mut second), data("cd"));
    assert_eq!(poll(&mut second), Got::End);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
}

#[test]
fn the_end_is_known_where_the_stream_knows_it() {
    let empty = ReplayBody::new(Empty::<Bytes>::new(), 64);
    assert!(empty.is_end_stream());
    assert!(empty.try_copy().unwrap().is_end_stream());

    let mut first = ReplayBody::new(Full::new(Bytes::from_static(b"ab")), 64);
    let mut second = first.try_copy().unwrap();
    assert!(!first.is_end_stream());
    assert_eq!(poll(&mut first), data("ab"));
    assert!(first.is_end_stream());
    assert!(!second.is_end_stream(), "it has not sent anything");
    assert_eq!(poll(&mut second), data("ab"));
    assert!(second.is_end_stream());
}

#[test]
fn one_that_will_fail_is_not_at_its_end() {
    let mut first = ReplayBody::new(Full::new(Bytes::from_static(b"ab")), 64);
    let second = first.try_copy().unwrap();
    let mut third = first.try_copy().unwrap();
    assert_eq!(poll(&mut third), data("ab"));
    for displaced in [&mut first, &mut { second }] {
        assert!(!displaced.is_end_stream());
        assert_eq!(poll(displaced), error(ReplayError::Displaced));
        assert!(displaced.is_end_stream());
        assert_eq!(displaced.size_hint().exact(), Some(0));
    }
}

#[test]
fn the_size_is_what_is_left_to_this_handle() {
    let mut first = ReplayBody::new(Full::new(Bytes::from_static(b"abcd")), 64);
    let second = first.try_copy().unwrap();
    assert_eq!(first.size_hint().exact(), Some(4));
    assert_eq!(poll(&mut first), data("abcd"));
    assert_eq!(first.size_hint().exact(), Some(0));
    assert_eq!(second.size_hint().exact(), Some(4));

    let mut stream = script([Data("abc"), Data("d")]);
    stream.hint.set_lower(1);
    stream.hint.set_upper(10);
    let mut first = ReplayBody::new(stream, 64);
    let second = first.try_copy().unwrap();
    assert_eq!(poll(&mut first), data("abc"));
    // The stream announces the same size as before; the recording is added to it.
    let bounds = |body: &ReplayBody<_>| (body.size_hint().lower(), body.size_hint().upper());
    assert_eq!(bounds(&first), (1, Some(10)));
    assert_eq!(bounds(&second), (4, Some(13)));
    assert_eq!((poll(&mut first), poll(&mut first)), (data("d"), Got::End));
    assert_eq!(bounds(&first), (0, Some(0)));
    assert_eq!(bounds(&second), (4, Some(4)));
}

#[test]
fn debug_output_keeps_the_body_to_itself() {
    let mut body = ReplayBody::new(script([Data("secret")]), 64);
    let copy = body.try_copy().unwrap();
    assert_eq!(poll(&mut body), data("secret"));
    assert!(!format!("{body:?} {copy:?}").contains("secret"));
}

#[tokio::test(start_paused = true)]
async fn handles_cross_threads() {
    fn check<T: Send + Sync + Unpin + 'static>(body: T) -> T {
        body
    }
    let body = check(ReplayBody::new(Full::new(Bytes::from_static(b"ab")), 64));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "ab");
}
