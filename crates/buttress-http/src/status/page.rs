//! [`StatusPage`]: the page without buttons, and the answers that both pages give.

use std::fmt;
use std::sync::Arc;

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::json;

use super::act::NotDone;
use super::board::StatusBoard;
use super::html::{self, SCRIPT, STYLE};
use crate::at_once::answers_at_once;

const HTML: &str = "text/html; charset=utf-8";
pub(super) const JSON: &str = "application/json";

/// A circle: browsers ask for an icon.
const ICON: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 8 8\">\
                    <circle cx=\"4\" cy=\"4\" r=\"3\" fill=\"#2a7\"/></svg>";

/// A service that shows a [`StatusBoard`], without buttons: as a page, and with the query `json` as JSON.
///
/// It answers `GET` and `HEAD` and changes nothing. See the [module](super).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use buttress::bulkhead::BulkheadLayer;
/// use buttress_http::status::{StatusBoard, StatusPage};
/// use http::Request;
/// use tower::ServiceExt;
///
/// let bulkhead = BulkheadLayer::default();
/// let page = StatusPage::new(StatusBoard::new("shop").bulkhead("db", bulkhead.handle()));
/// let answer = page.oneshot(Request::get("/?json").body(())?).await?;
/// assert!(answer.body().contains(r#""active":0"#));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct StatusPage {
    status: Arc<StatusBoard>,
}

impl StatusPage {
    /// Creates a page of `status`.
    pub fn new(status: impl Into<Arc<StatusBoard>>) -> Self {
        Self { status: status.into() }
    }
}

answers_at_once!(StatusPage);

impl StatusPage {
    fn answer_to(&self, head: &Parts) -> Response<String> {
        if !self.status.is_at(head.uri.path()) {
            return elsewhere(head, &self.status);
        }
        match head.method {
            Method::GET | Method::HEAD => show(&self.status, head, None),
            _ => not_allowed("GET, HEAD"),
        }
    }
}

/// Answers a `GET` or `HEAD` of the page.
pub(super) fn show(status: &StatusBoard, head: &Parts, operator: Option<&str>) -> Response<String> {
    match head.uri.query().unwrap_or_default() {
        "" => answer(head, StatusCode::OK, HTML, html::page(status, operator)),
        "json" => {
            let body = status.json(operator.is_some()).to_string();
            answer(head, StatusCode::OK, JSON, body)
        }
        "script" => answer(head, StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT.into()),
        "style" => answer(head, StatusCode::OK, "text/css; charset=utf-8", STYLE.into()),
        "icon" => answer(head, StatusCode::OK, "image/svg+xml", ICON.into()),
        _ => {
            let why = "the page has the queries json, script, style and icon";
            refusal(head, &NotDone::new(StatusCode::NOT_FOUND, why))
        }
    }
}

/// Answers a request of another path.
pub(super) fn elsewhere(head: &Parts, status: &StatusBoard) -> Response<String> {
    let why = format!("the status page is at {}", status.path());
    refusal(head, &NotDone::new(StatusCode::NOT_FOUND, why))
}

pub(super) fn not_allowed(allowed: &'static str) -> Response<String> {
    let why = NotDone::new(StatusCode::METHOD_NOT_ALLOWED, format!("allowed are {allowed}"));
    let mut response = respond(why.status, JSON, json!({ "error": why.why }).to_string());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Answers that nothing was done.
pub(super) fn refusal(head: &Parts, refused: &NotDone) -> Response<String> {
    answer(head, refused.status, JSON, json!({ "error": refused.why }).to_string())
}

pub(super) fn answer(
    head: &Parts,
    status: StatusCode,
    content: &'static str,
    body: String,
) -> Response<String> {
    let length = HeaderValue::from(body.len());
    let is_head = head.method == Method::HEAD;
    let mut response = respond(status, content, if is_head { String::new() } else { body });
    if is_head {
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
    response
}

fn respond(status: StatusCode, content: &'static str, body: String) -> Response<String> {
    const HEADERS: [(HeaderName, &str); 5] = [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, "default-src 'self'; frame-ancestors 'none'"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

impl fmt::Debug for StatusPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusPage").field("status", &self.status).finish()
    }
}
