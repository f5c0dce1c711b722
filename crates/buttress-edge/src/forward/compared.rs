//! Compares the answers of the backends of a route with the answers of its mirror.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use buttress::Clock;
use buttress::shadow::{Compare, Comparison, Mismatch};
use http::header::{CONNECTION, CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::Stream;
use super::digest::{End, observer, read};
use crate::Body;
use crate::answer::Failed;
use crate::body::has_no_body;
use crate::headers::hop;
use crate::numbers::Ended;
use crate::race::first;
use crate::route::{Differing, Mismatches};

/// The most bytes of an answer that are read only to use its connection again. A longer rest costs more than a new
/// connection.
const DRAINED: u64 = 64 * 1024;
/// The longest time for it. A mirror that has answered must not hold its slot until the limit of the shadow.
const DRAIN: Duration = Duration::from_secs(1);

/// The rules of a comparison, and its numbers.
#[derive(Debug)]
pub(crate) struct Comparing {
    pub fields: Vec<HeaderName>,
    /// The longest body that is compared, in bytes. 0 if bodies are not compared.
    pub max_body: u64,
    pub mismatches: Arc<Mismatches>,
}

/// The comparison of the answers to one request.
#[derive(Clone, Debug)]
pub(super) struct Compared {
    pub rules: Arc<Comparing>,
    pub clock: Clock,
    /// Whether the request is a HEAD.
    pub is_head: bool,
}

/// The parts of an answer's head that the comparison needs. It keeps no value of a field.
#[derive(Debug)]
struct Facts {
    status: StatusCode,
    /// The digest of each compared field. `None` for a field that is not there.
    fields: Vec<Option<[u8; 32]>>,
    /// The digest of the codings of the content. `None` for content that is not coded.
    coding: Option<[u8; 32]>,
}

/// The note of the primary's answer. `None` if the primary failed.
pub(super) struct Noted(Option<(Facts, Option<oneshot::Receiver<End>>)>);

/// The difference between two answers. Its text has no value of a field and nothing of a body.
#[derive(PartialEq, Debug)]
enum Difference {
    /// The statuses of the primary and of the mirror.
    Status(StatusCode, StatusCode),
    Field(HeaderName),
    Body,
    /// The error type of the mirror's failure.
    MirrorFailed(&'static str),
    PrimaryFailed(StatusCode),
}

/// The result of a comparison.
#[derive(PartialEq, Debug)]
enum Verdict {
    Same,
    Different(Difference),
    Incomparable,
}

use Verdict::{Incomparable, Same};

impl Difference {
    fn kind(&self) -> Differing {
        match self {
            Self::Status(..) => Differing::Status,
            Self::Field(_) => Differing::Field,
            Self::Body => Differing::Body,
            Self::MirrorFailed(_) => Differing::MirrorFailed,
            Self::PrimaryFailed(_) => Differing::PrimaryFailed,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(primary, mirror) => {
                write!(f, "the status is {} and not {}", mirror.as_u16(), primary.as_u16())
            }
            Self::Field(name) => write!(f, "the field {name} differs"),
            Self::Body => f.write_str("the body differs"),
            Self::MirrorFailed(kind) => write!(f, "the mirror failed: {kind}"),
            Self::PrimaryFailed(mirror) => {
                write!(f, "the status is {}, and the primary failed", mirror.as_u16())
            }
        }
    }
}

impl Facts {
    fn of(status: StatusCode, headers: &HeaderMap, rules: &Comparing) -> Self {
        // Such a field is for one connection: the client does not get it.
        let is_named = |name: &HeaderName| {
            let mut tokens = headers.get_all(CONNECTION).iter().flat_map(hop::tokens);
            tokens.any(|token| token.eq_ignore_ascii_case(name.as_str().as_bytes()))
        };
        let digest = |name: &HeaderName| {
            let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
            digest_of(values).filter(|_| !is_named(name))
        };
        let fields = rules.fields.iter().map(digest).collect();
        let codings = headers.get_all(CONTENT_ENCODING).iter().flat_map(hop::tokens);
        let codings = codings.filter(|it| !it.is_empty() && !it.eq_ignore_ascii_case(b"identity"));
        Self { status, fields, coding: digest_of(codings) }
    }

    /// Returns the first difference of the heads of the primary and of the mirror.
    fn difference(&self, mirror: &Self, rules: &Comparing) -> Option<Difference> {
        if self.status != mirror.status {
            return Some(Difference::Status(self.status, mirror.status));
        }
        let pairs = self.fields.iter().zip(&mirror.fields);
        let mut named = rules.fields.iter().zip(pairs);
        let (name, _) = named.find(|(_, (primary, mirror))| primary != mirror)?;
        Some(Difference::Field(name.clone()))
    }
}

/// Returns the digest of some values in their order. `None` without a value.
fn digest_of<'v>(values: impl Iterator<Item = &'v [u8]>) -> Option<[u8; 32]> {
    let mut hash: Option<Sha256> = None;
    for value in values {
        let hash = hash.get_or_insert_default();
        // The length says where a value ends.
        hash.update((value.len() as u64).to_be_bytes());
        hash.update(value);
    }
    hash.map(|hash| hash.finalize().into())
}

/// Compares the ends of two bodies. `is_coded` if one of them is coded, and `same_coding` if both are coded equally.
fn judge(primary: End, mirror: End, is_coded: bool, same_coding: bool) -> Verdict {
    match (primary, mirror) {
        (End::Broken, _) | (_, End::Broken) | (End::TooLong, End::TooLong) => Incomparable,
        // An empty body is the same in every coding.
        (End::Whole { length, .. }, _) if primary == mirror && (same_coding || length == 0) => Same,
        // The same content has many forms in one coding, e.g. of two versions of a compressor.
        _ if is_coded => Incomparable,
        _ => Verdict::Different(Difference::Body),
    }
}

/// Reads an answer of the mirror, and ends it in the numbers of its backend.
async fn finish(stream: Stream, limit: u64) -> End {
    let Stream { mut body, mut tally, lane, .. } = stream;
    if let Some(tally) = &mut tally {
        // If the time is over, the proxy leaves.
        tally.drops_as(Ended::Abandoned);
    }
    let end = read(&mut body, limit).await;
    if let Some(tally) = &mut tally {
        tally.end(match end {
            End::Whole { .. } => Ended::Answered,
            End::TooLong => Ended::Abandoned,
            End::Broken => Ended::Failed,
        });
    }
    // The request holds its connection until here.
    drop((body, lane));
    end
}

impl Compared {
    /// Reads the rest of an answer that is decided already. Returns how it ended.
    async fn drain(&self, stream: Stream) -> End {
        let limit = pin!(self.clock.sleep(DRAIN));
        first(pin!(finish(stream, DRAINED)), limit).await.unwrap_or(End::TooLong)
    }

    /// Returns an answer of the mirror as the proxy would pass it to a client.
    fn passed(&self, mut response: Response<Stream>) -> Mirrored {
        if hop::is_coded(response.headers()) {
            return Err(Failed::BadAnswer);
        }
        if has_no_body(self.is_head, response.status()) {
            // The fields give the length of another answer, and the stream can end after the head.
            response.body_mut().body = Body::empty();
        }
        Ok(response)
    }

    async fn verdict(&self, Noted(primary): Noted, mirror: Mirrored) -> Verdict {
        let ((facts, end), response) = match (primary, mirror) {
            // The proxy itself could not send the copy.
            (_, Err(Failed::Exhausted | Failed::Refused(_))) => return Incomparable,
            (None, Err(_)) => return Same,
            (Some(_), Err(failed)) => {
                return Verdict::Different(Difference::MirrorFailed(failed.error()));
            }
            (None, Ok(response)) => {
                let status = response.status();
                self.drain(response.into_body()).await;
                return Verdict::Different(Difference::PrimaryFailed(status));
            }
            (Some(primary), Ok(response)) => (primary, response),
        };
        let of_mirror = Facts::of(response.status(), response.headers(), &self.rules);
        let stream = response.into_body();
        if let Some(difference) = facts.difference(&of_mirror, &self.rules) {
            self.drain(stream).await;
            return Verdict::Different(difference);
        }
        let Some(end) = end else {
            let is_broken = self.drain(stream).await == End::Broken;
            return if is_broken { Incomparable } else { Same };
        };
        let mirror = finish(stream, self.rules.max_body).await;
        // The client has left, or the proxy did not use the answer.
        let primary = end.await.unwrap_or(End::Broken);
        let is_coded = facts.coding.is_some() || of_mirror.coding.is_some();
        judge(primary, mirror, is_coded, facts.coding == of_mirror.coding)
    }
}

type Mirrored = Result<Response<Stream>, Failed>;

impl Compare<Response<Stream>, Failed> for Compared {
    type Note = Noted;
    type Comparing = Pin<Box<dyn Future<Output = Comparison> + Send>>;

    fn note(&self, primary: &Mirrored) -> Noted {
        let passed = primary.as_ref().ok().filter(|it| !hop::is_coded(it.headers()));
        Noted(passed.map(|response| {
            let facts = Facts::of(response.status(), response.headers(), &self.rules);
            if self.rules.max_body == 0 {
                return (facts, None);
            }
            let (observer, end) = observer(self.rules.max_body);
            // The body of an answer has one observer: a request is copied once.
            drop(response.body().observer.set(observer));
            (facts, Some(end))
        }))
    }

    fn compare(&self, primary: Noted, mirror: Mirrored) -> Self::Comparing {
        let compared = self.clone();
        Box::pin(async move {
            let mirror = mirror.and_then(|response| compared.passed(response));
            match compared.verdict(primary, mirror).await {
                Same => Comparison::Same,
                Incomparable => Comparison::Incomparable,
                Verdict::Different(difference) => {
                    compared.rules.mismatches.add(difference.kind());
                    Comparison::Different(Mismatch::new(difference.to_string()))
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(fields: &[&'static str]) -> Comparing {
        let fields = fields.iter().map(|name| HeaderName::from_static(name)).collect();
        Comparing { fields, max_body: 1, mismatches: Arc::default() }
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(pair).collect()
    }

    #[test]
    fn edge_3_10_only_the_chosen_fields_are_compared_each_with_all_of_its_values() {
        let rules = rules(&["x-kind", "vary"]);
        let base = [("x-kind", "a"), ("vary", "x"), ("vary", "y")];
        let difference = |other: &[(&'static str, &'static str)]| {
            let [one, other] = [&base[..], other].map(headers);
            let [one, other] = [one, other].map(|it| Facts::of(StatusCode::OK, &it, &rules));
            one.difference(&other, &rules)
        };
        let field = |name| Some(Difference::Field(HeaderName::from_static(name)));
        for (other, expected) in [
            (&base[..], None),
            (&[("vary", "x"), ("date", "now"), ("vary", "y"), ("x-kind", "a")], None),
            (&[("x-kind", "b"), ("vary", "x"), ("vary", "y")], field("x-kind")),
            (&[("vary", "x"), ("vary", "y")], field("x-kind")),
            (&[("x-kind", "a"), ("x-kind", "a"), ("vary", "x"), ("vary", "y")], field("x-kind")),
            (&[("x-kind", "a"), ("vary", "xy")], field("vary")),
            (&[("x-kind", "a"), ("vary", "y"), ("vary", "x")], field("vary")),
            (
                &[("x-kind", "a"), ("vary", "x"), ("vary", "y"), ("connection", "close, X-Kind")],
                field("x-kind"),
            ),
        ] {
            assert_eq!(difference(other), expected, "{other:?}");
        }
    }

    #[test]
    fn edge_3_10_a_body_that_is_not_whole_or_is_coded_otherwise_is_incomparable() {
        let whole = |length| End::Whole { length, digest: [7; 32] };
        let different = || Verdict::Different(Difference::Body);
        // Whether a body is coded, and whether both are coded equally.
        for (primary, mirror, coding, expected) in [
            (whole(3), whole(3), (false, true), Same),
            (whole(3), whole(4), (false, true), different()),
            (whole(3), End::TooLong, (false, true), different()),
            (End::TooLong, whole(3), (false, true), different()),
            (End::TooLong, End::TooLong, (false, true), Incomparable),
            (End::Broken, whole(3), (false, true), Incomparable),
            (whole(3), End::Broken, (false, true), Incomparable),
            (End::Broken, End::TooLong, (false, true), Incomparable),
            (whole(3), whole(3), (true, true), Same),
            (whole(3), whole(4), (true, true), Incomparable),
            (whole(3), whole(3), (true, false), Incomparable),
            (whole(3), End::TooLong, (true, false), Incomparable),
            (whole(0), whole(0), (true, false), Same),
        ] {
            let (is_coded, same_coding) = coding;
            let verdict = judge(primary, mirror, is_coded, same_coding);
            assert_eq!(verdict, expected, "{primary:?} {mirror:?} {coding:?}");
        }
        let coding = |fields: &[_]| {
            Facts::of(StatusCode::OK, &headers(fields), &rules(&[])).coding.is_some()
        };
        assert!(coding(&[("content-encoding", "gzip")]));
        assert!(!coding(&[("content-encoding", "Identity")]) && !coding(&[]));
    }
}
