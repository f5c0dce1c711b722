//! [`ClientRequest`]: one request, built step by step.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use buttress::context::Context;
use buttress_http::idempotency_key::IDEMPOTENCY_KEY;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower::{BoxError, Service};

use super::config::Reading;
use super::error::{About, PathTemplate};
use super::{ClientError, ClientErrorKind};
use crate::Body;
use crate::path::{self, Allowed};
use crate::race::first;

/// How much of an answer that is an error is read.
const LONGEST_REASON: usize = 64 << 10;
/// How long the client waits for the rest of such an answer. It costs a new connection if the rest takes longer.
const REASON: Duration = Duration::from_millis(100);

/// A request that a [`ServiceClient`](super::ServiceClient) has begun. Nothing is sent before [`send`](Self::send),
/// [`bytes`](Self::bytes) or `json`.
///
/// An invalid value is reported by these methods, as [`ClientErrorKind::Invalid`].
#[must_use = "nothing is sent before `.send()`, `.bytes()` or `.json()`"]
pub struct ClientRequest<S> {
    service: S,
    host: Arc<str>,
    reading: Reading,
    method: Method,
    template: Cow<'static, str>,
    /// The path with the values of its parameters, and the query.
    path: String,
    query: String,
    headers: HeaderMap,
    body: Body,
    /// The first invalid value.
    invalid: Option<Cow<'static, str>>,
}

impl<S> ClientRequest<S> {
    pub(super) fn new(
        service: S,
        (host, reading): (Arc<str>, Reading),
        method: Method,
        path: Cow<'static, str>,
    ) -> Self {
        let (path, invalid) = match path.split_once(['?', '#']) {
            Some((before, _)) => {
                let what = "the path has a query or a fragment: use `.query(name, value)`";
                (before.to_owned().into(), Some(what.into()))
            }
            None => (path, None),
        };
        Self {
            service,
            host,
            reading,
            method,
            path: path.as_ref().to_owned(),
            template: path,
            query: String::new(),
            headers: HeaderMap::new(),
            body: Body::empty(),
            invalid,
        }
    }

    fn refuse(&mut self, what: impl Into<Cow<'static, str>>) {
        self.invalid.get_or_insert_with(|| what.into());
    }

    /// Replaces `{name}` in the path by `value`, percent-encoded. The value stays within one segment.
    /// Errors and logs have the name, not the value.
    ///
    /// A value that another server could read as more than a part of one segment cannot be sent. This is a value that
    /// is empty, `.` or `..`, or that has a slash, a backslash, a semicolon, a control character or a percent-encoded
    /// byte. Such a value belongs into the query or the body.
    pub fn param(mut self, name: &str, value: impl Display) -> Self {
        let place = format!("{{{name}}}");
        let value = value.to_string();
        if !self.template.contains(&place) {
            self.refuse(format!("the path has no {place}"));
        } else if value.is_empty() {
            self.refuse(format!("the value of {place} is empty"));
        } else {
            let segment = format!("/{}", encoded(&value));
            match path::check(segment.as_bytes(), Allowed::default()) {
                Ok(_) => self.path = self.path.replacen(&place, segment.trim_start_matches('/'), 1),
                Err(why) => self.refuse(format!("with the value of {place}, {why}")),
            }
        }
        self
    }

    /// Adds a parameter to the query of the URL, percent-encoded.
    pub fn query(mut self, name: &str, value: impl Display) -> Self {
        if !self.query.is_empty() {
            self.query.push('&');
        }
        self.query += &format!("{}={}", encoded(name), encoded(&value.to_string()));
        self
    }

    /// Adds a field.
    pub fn header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        match (name.try_into(), value.try_into()) {
            (Ok(name), Ok(value)) => {
                self.headers.append(name, value);
            }
            (Err(_), _) => self.refuse("`header` was given a name that no field can have"),
            (Ok(name), Err(_)) => {
                self.refuse(format!(
                    "`header` was given a value that no field can have, for {name}"
                ));
            }
        }
        self
    }

    /// Sets the `Idempotency-Key`. The request may then be sent again whatever its method: the service has to run it
    /// once.
    pub fn idempotency_key(mut self, key: &str) -> Self {
        match HeaderValue::try_from(key) {
            Ok(value) if !key.is_empty() => {
                self.headers.insert(IDEMPOTENCY_KEY, value);
            }
            _ => self.refuse("the idempotency key is empty, or has bytes that a field cannot have"),
        }
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to the JSON text of `value`, and `Content-Type` with it.
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn json_body(mut self, value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(text) => {
                self.body = text.into();
                let json = HeaderValue::from_static("application/json");
                self.headers.insert(http::header::CONTENT_TYPE, json);
            }
            Err(_) => self.refuse("the body cannot be written as JSON"),
        }
        self
    }

    fn about(&self) -> About {
        let path = Some(PathTemplate(self.template.clone()));
        About { method: self.method.clone(), host: Arc::clone(&self.host), path }
    }

    /// Sends the request, and returns the answer whatever its status. Redirects are not followed.
    ///
    /// # Errors
    /// Returns an error if there is no answer.
    ///
    /// # Cancel safety
    /// Dropping the future drops the request. The service may have run it.
    pub async fn send<B>(self) -> Result<Response<B>, ClientError>
    where
        S: Service<Request<Body>, Response = Response<B>>,
        S::Error: Into<ClientError>,
    {
        let about = self.about();
        let Self { mut service, method, path, query, headers, body, invalid, .. } = self;
        let is_open = path.contains(['{', '}']);
        let open = is_open.then(|| "a parameter of the path has no value".into());
        if let Some(what) = invalid.or(open) {
            return Err(ClientError::new(ClientErrorKind::Invalid, what).about(|| about));
        }
        let is_absolute = path.starts_with('/');
        let whole = if query.is_empty() { path } else { format!("{path}?{query}") };
        let Some(target) = PathAndQuery::try_from(whole).ok().filter(|_| is_absolute) else {
            let what = "the path does not start with a slash, or has a byte that must be encoded";
            return Err(ClientError::new(ClientErrorKind::Invalid, what).about(|| about));
        };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = headers;
        if let Some(template) = about.path.clone() {
            request.extensions_mut().insert(template);
        }
        let answer = async {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            service.call(request).await
        };
        answer.await.map_err(|error: S::Error| error.into().about(|| about))
    }

    /// Sends the request, and returns the body of its answer.
    ///
    /// The head and the body have to arrive within [`time_limit`](super::Config::time_limit), and before the deadline of the
    /// [context](buttress::context).
    ///
    /// # Errors
    /// Returns an error if there is no answer, if its status is not 2xx, or if its body breaks off, arrives too late, or is
    /// longer than
    /// [`max_body`](super::Config::max_body).
    pub async fn bytes<B>(self) -> Result<Bytes, ClientError>
    where
        S: Service<Request<Body>, Response = Response<B>>,
        S::Error: Into<ClientError>,
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        let (about, Reading { max_body, limit, clock }) = (self.about(), self.reading.clone());
        let (begun, deadline) = (clock.now(), Context::deadline());
        let limit = deadline.map_or(limit, |at| limit.min(at.saturating_duration_since(begun)));
        let response = self.send().await?;
        let left = limit.saturating_sub(clock.now().saturating_duration_since(begun));
        let status = response.status();
        if !status.is_success() {
            // A connection whose answer was read to its end can be used again.
            let rest = Limited::new(response.into_body(), max_body.min(LONGEST_REASON));
            let end = clock.sleep(REASON.min(left));
            let _unread = first(pin!(rest.collect()), pin!(end)).await;
            return Err(ClientError::status_of(status).about(|| about));
        }
        let body = Limited::new(response.into_body(), max_body);
        let Some(body) = first(pin!(body.collect()), pin!(clock.sleep(left))).await else {
            let what = "the body of the answer did not arrive in time";
            return Err(ClientError::new(ClientErrorKind::Body, what).about(|| about));
        };
        let body = body.map_err(|error| {
            let what: Cow<'static, str> = if error.is::<LengthLimitError>() {
                format!("the answer is longer than {max_body} bytes").into()
            } else {
                "the body of the answer broke off".into()
            };
            ClientError::new(ClientErrorKind::Body, what).because(error).about(|| about)
        })?;
        Ok(body.to_bytes())
    }
}

#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
impl<S, B> ClientRequest<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<ClientError>,
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    /// Sends the request, and reads its answer as JSON.
    ///
    /// # Errors
    /// Returns the errors of [`bytes`](Self::bytes), and an error if the body is not the JSON text of a `T`.
    pub async fn json<T: serde::de::DeserializeOwned>(self) -> Result<T, ClientError> {
        let about = self.about();
        let text = self.bytes().await?;
        serde_json::from_slice(&text).map_err(|error| {
            let what = "the answer is not JSON of the expected form";
            ClientError::new(ClientErrorKind::Decode, what).because(error).about(|| about)
        })
    }
}

/// Percent-encodes all bytes but the unreserved ones (RFC 3986, section 2.3).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(byte.into());
        } else {
            // Writing into a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

impl<S> fmt::Debug for ClientRequest<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientRequest")
            .field("method", &self.method)
            .field("host", &self.host)
            .field("path", &self.template)
            .finish_non_exhaustive()
    }
}
