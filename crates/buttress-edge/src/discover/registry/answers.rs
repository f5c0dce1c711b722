//! The answers of a registry.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::state::Set;
use super::wire::{Entry, Sent};
use crate::Body;
use crate::answer::problem;

pub(super) type Answer = Response<Body>;
/// The answer to a request that is refused.
pub(super) type Refused = Box<Answer>;

/// Returns the answer with a set. Its text is made once for all callers.
pub(super) fn page(set: &Set, version: String) -> Result<Answer, Refused> {
    let text = match set.page.get() {
        Some(text) => text.clone(),
        None => {
            let entries = set.instances.iter().map(|(id, record)| Entry { id, record });
            let instances = entries.collect();
            let text = Bytes::from(written(&Sent { version, instances })?);
            set.page.get_or_init(|| text).clone()
        }
    };
    Ok(of_json(text))
}

pub(super) fn refused(status: StatusCode, kind: &str, why: &str) -> Refused {
    Box::new(problem(status, kind, why))
}

pub(super) fn bad_request(why: &str) -> Refused {
    refused(StatusCode::BAD_REQUEST, "bad-request", why)
}

pub(super) fn busy(why: &str) -> Refused {
    let mut response = refused(StatusCode::TOO_MANY_REQUESTS, "too-many", why);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The answer while the set is not known for this time.
pub(super) fn unknown(rest: Duration) -> Refused {
    let why = "the registry has started and does not know all instances yet";
    let mut response = refused(StatusCode::SERVICE_UNAVAILABLE, "not-yet-known", why);
    // Rounded up, because a caller that comes too early comes twice.
    let seconds = u64::try_from(rest.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<Answer, Refused> {
    Ok(of_json(written(value)?.into()))
}

fn written(value: &impl serde::Serialize) -> Result<Vec<u8>, Refused> {
    serde_json::to_vec(value).map_err(|_| {
        refused(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the answer cannot be written")
    })
}

fn of_json(text: Bytes) -> Answer {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
