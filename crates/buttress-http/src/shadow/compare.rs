use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};

use buttress::shadow::{Compare, Comparison, Mismatch};
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use http_body::Body;

use super::digest::{DigestBody, End, Shared};

/// A comparison of two responses: status, headers and the digest of the body.
///
/// It ignores `date`, the ids of requests and traces, `via`, `server`, and the headers of one connection (RFC 9110,
/// section 7.6.1), which include the headers that `Connection` of either response names. Two errors are the same. A body that broke off, or that the client did not read to its end, makes the
/// responses incomparable. The mirrored call waits for the end of both bodies, at most for its limit.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct CompareResponses {
    only: Option<Vec<HeaderName>>,
    ignored: Vec<HeaderName>,
}

/// Headers that differ between two equal responses.
const IGNORED: [HeaderName; 22] = [
    header::DATE,
    header::VIA,
    header::SERVER,
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-correlation-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("b3"),
    HeaderName::from_static("x-b3-traceid"),
    HeaderName::from_static("x-b3-spanid"),
    HeaderName::from_static("x-b3-parentspanid"),
    HeaderName::from_static("x-b3-sampled"),
    HeaderName::from_static("x-b3-flags"),
    HeaderName::from_static("x-amzn-trace-id"),
];

impl CompareResponses {
    /// Compares all headers but the ignored ones.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compares only these headers. Default: all but the ignored ones.
    pub fn only(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.only = Some(headers.into_iter().collect());
        self
    }

    /// Ignores one more header, for example `set-cookie`.
    pub fn ignore(mut self, name: HeaderName) -> Self {
        self.ignored.push(name);
        self
    }

    fn counts(&self, name: &HeaderName) -> bool {
        let chosen = self.only.as_ref().is_none_or(|only| only.contains(name));
        chosen && !IGNORED.contains(name) && !self.ignored.contains(name)
    }

    /// Returns the first difference of two heads.
    fn difference(&self, one: &Head, other: &Head) -> Option<Mismatch> {
        if one.status != other.status {
            let what = format!("status: {} and {}", one.status.as_u16(), other.status.as_u16());
            return Some(Mismatch::new(what));
        }
        let names = one.headers.keys().chain(other.headers.keys());
        let is_compared = |name: &&HeaderName| {
            self.counts(name) && ![one, other].iter().any(|head| is_named(&head.headers, name))
        };
        let mut differing = names.filter(is_compared).filter(|name| {
            !one.headers.get_all(*name).iter().eq(other.headers.get_all(*name).iter())
        });
        differing.next().map(|name| Mismatch::new(format!("header {name}")))
    }
}

/// The note of a response.
#[derive(Clone, Debug)]
struct Head {
    status: StatusCode,
    headers: HeaderMap,
}

/// The note of the primary's answer. `None` for an error.
#[derive(Clone)]
pub struct Note(Option<(Head, Option<Shared>)>);

impl std::fmt::Debug for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Note").field(&self.0.as_ref().map(|(head, _)| head)).finish()
    }
}

fn note<B>(response: &Response<B>) -> (Head, Option<Shared>) {
    let head = Head { status: response.status(), headers: response.headers().clone() };
    let digest: Option<&Shared> = response.extensions().get();
    (head, digest.map(Shared::wanted))
}

impl<B, E> Compare<Response<DigestBody<B>>, E> for CompareResponses
where
    B: Body<Data: Clone> + Send + 'static,
    E: Send + 'static,
{
    type Note = Note;
    type Comparing = Pin<Box<dyn Future<Output = Comparison> + Send>>;

    fn note(&self, primary: &Result<Response<DigestBody<B>>, E>) -> Note {
        // The primary's body has no digest unless it is noted here, before its first frame.
        Note(primary.as_ref().ok().map(note))
    }

    fn compare(
        &self,
        Note(primary): Note,
        mirror: Result<Response<DigestBody<B>>, E>,
    ) -> Self::Comparing {
        let rules = self.clone();
        Box::pin(async move {
            let ((one, first), mirror) = match (primary, mirror) {
                (Some(primary), Ok(mirror)) => (primary, mirror),
                (None, Err(_)) => return Comparison::Same,
                (Some(_), Err(_)) => return differs("the mirror failed"),
                (None, Ok(_)) => return differs("the primary failed"),
            };
            let (other, second) = note(&mirror);
            if let Some(mismatch) = rules.difference(&one, &other) {
                return Comparison::Different(mismatch);
            }
            read(mirror.into_body()).await;
            let (Some(first), Some(second)) = (first, second) else {
                return Comparison::Incomparable;
            };
            match (first.end().await, second.end().await) {
                (End::Whole(one), End::Whole(other)) if one == other => Comparison::Same,
                (End::Whole(_), End::Whole(_)) => differs("body"),
                _ => Comparison::Incomparable,
            }
        })
    }
}

/// Whether `Connection` names `name`: the header is then one of the connection only.
fn is_named(headers: &HeaderMap, name: &HeaderName) -> bool {
    let options = headers.get_all(header::CONNECTION).iter();
    let mut options = options.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_ref()))
}

fn differs(what: &'static str) -> Comparison {
    Comparison::Different(Mismatch::new(what))
}

/// Reads a body to its end, or to its error.
async fn read<B: Body<Data: Clone>>(body: DigestBody<B>) {
    let mut body = pin!(body);
    while let Some(Ok(_)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {}
}
