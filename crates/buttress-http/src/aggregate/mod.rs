//! Responses of an [`Aggregate`](buttress::aggregate::Aggregate): pages that name their missing parts.

use std::fmt;

use buttress::Name;
use buttress::aggregate::Parts;
use http::header::CACHE_CONTROL;
use http::{HeaderName, HeaderValue, Response};

/// The header with the names of the missing parts, separated by commas.
pub const X_PARTIAL: HeaderName = HeaderName::from_static("x-partial");

/// Makes the response 200 of a page. `body` gets the values of the parts and the names of the missing ones.
///
/// The response of a page without missing parts has only the body. If a part is missing, the response also has the
/// header `x-partial` with the names, and `cache-control: no-store`, so that no cache keeps the gap. The status is
/// never 206, because 206 answers a request for a range (RFC 9110, section 15.3.7).
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower::BoxError> {
/// use buttress::aggregate::Aggregate;
/// use tower::{BoxError, ServiceExt, service_fn};
///
/// let orders = service_fn(async |id: u32| Ok::<_, BoxError>(id));
/// let payments = service_fn(async |_: u32| Err::<u32, BoxError>("down".into()));
/// let page = Aggregate::builder()
///     .required("order", orders)
///     .optional("payment", payments)
///     .build()?;
///
/// let response = buttress_http::aggregate::respond(page.oneshot(7).await?, |values, partial| {
///     let (order, payment) = values;
///     let payment = payment.map_or("null".to_owned(), |payment| payment.to_string());
///     format!(r#"{{"order":{order},"payment":{payment},"partial":{partial}}}"#)
/// });
/// assert_eq!(response.status(), 200);
/// assert_eq!(response.headers()["x-partial"], "payment");
/// assert_eq!(response.headers()["cache-control"], "no-store");
/// assert_eq!(response.body(), r#"{"order":7,"payment":null,"partial":["payment"]}"#);
/// # Ok(())
/// # }
/// ```
pub fn respond<T, B>(parts: Parts<T>, body: impl FnOnce(T, Partial<'_>) -> B) -> Response<B> {
    let (values, missing) = parts.into_parts();
    let header = header(&missing);
    let mut response = Response::new(body(values, Partial { names: &missing }));
    if let Some(names) = header {
        response.headers_mut().insert(X_PARTIAL, names);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Returns the value of `x-partial`. Every name of a part is a valid value of a header.
fn header(missing: &[Name]) -> Option<HeaderValue> {
    let names: Vec<_> = missing.iter().map(|name| name.as_str()).collect();
    if names.is_empty() { None } else { HeaderValue::try_from(names.join(", ")).ok() }
}

/// The names of the missing parts of a page. Its text is an array in JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Partial<'a> {
    names: &'a [Name],
}

impl Partial<'_> {
    /// Returns the names, in the order of the definition.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.names.iter().map(|name| name.as_str())
    }
}

impl fmt::Display for Partial<'_> {
    /// Writes an array in JSON: `["payment","stock"]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut json = String::from("[");
        for (place, name) in self.names().enumerate() {
            if place > 0 {
                json.push(',');
            }
            crate::json::push_text(&mut json, name);
        }
        json.push(']');
        f.write_str(&json)
    }
}

impl fmt::Debug for Partial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests;
