//! The request that a service of this process gets.

use http::header::HOST;
use http::{Extensions, HeaderValue, Request, Uri, Version};
use hyper::upgrade::OnUpgrade;

use crate::caller::Subject;
use crate::forward::Head;

/// Returns the head of a request for a service. Its target is in the origin form, whichever the client used.
pub(super) fn request(
    head: Head,
    version: Version,
    host: Option<HeaderValue>,
    (mut extensions, subject): (Extensions, Option<Subject>),
) -> Request<()> {
    // The service cannot take over the connection: the tunnels of the proxy have limits and numbers.
    extensions.remove::<OnUpgrade>();
    if let Some(subject) = subject {
        extensions.insert(subject);
    }
    let Head { method, target, mut headers, .. } = head;
    if let Some(host) = host {
        headers.insert(HOST, host);
    }
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(target);
    *request.version_mut() = version;
    *request.headers_mut() = headers;
    *request.extensions_mut() = extensions;
    request
}
