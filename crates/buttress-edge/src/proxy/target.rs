//! The host of a request, and the target that is forwarded.

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri, Version, request};

use crate::answer::Failed;
use crate::{host, path};

/// Returns the host of a request unchanged. The authority of the target wins over `Host`.
pub(super) fn authority(head: &request::Parts) -> Result<Option<HeaderValue>, Failed> {
    let mut fields = host_fields(&head.headers);
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Failed::Host);
    }
    let is_written = |field: &HeaderValue| host::normalize(field.as_bytes()).is_some();
    match (head.uri.authority(), field) {
        (Some(_), Some(field)) if !is_written(field) => Err(Failed::Host),
        // RFC 9112, section 3.2: the field is required in the absolute form too.
        (Some(_), None) if head.version == Version::HTTP_11 => Err(Failed::Host),
        (Some(authority), _) => {
            HeaderValue::try_from(authority.as_str()).map(Some).map_err(|_| Failed::Host)
        }
        (None, Some(field)) => Ok(Some(field.clone())),
        (None, None) if head.version == Version::HTTP_10 => Ok(None),
        (None, None) => Err(Failed::Host),
    }
}

fn host_fields(headers: &HeaderMap) -> impl Iterator<Item = &HeaderValue> {
    headers.get_all(HOST).iter()
}

/// Returns the path and query that are forwarded, without the first `strip` bytes of the matched form of the
/// path. All other bytes are unchanged.
pub(super) fn target(uri: &Uri, strip: usize) -> Option<PathAndQuery> {
    let whole = uri.path_and_query()?;
    if strip == 0 {
        return Some(whole.clone());
    }
    let raw = path::raw_length(whole.path().as_bytes(), strip);
    let rest = whole.as_str().get(raw..)?;
    let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    PathAndQuery::try_from(rest).ok()
}
