mod keyed;

use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use buttress::InvalidConfig;
use buttress::rate_limit::Handle;
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::layered::layered;
use crate::mapped::{MapResponse, Mapped, MappedFuture};
use crate::retry_after::whole_seconds;

pub use keyed::{KeyedRateLimitFields, KeyedRateLimitFieldsFuture, KeyedRateLimitFieldsLayer};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The greatest integer a structured field can hold (RFC 9651, section 3.3.1).
const LARGEST_INTEGER: u128 = 999_999_999_999_999;

/// A layer that reports the state of a rate limiter in every response, refused or not. It adds the
/// `RateLimit-Policy` and `RateLimit` fields of draft-ietf-httpapi-ratelimit-headers-10.
///
/// `RateLimit-Policy: "default";q=10;w=1` is the rule: at most `q` tokens, which the limiter
/// refills in `w` seconds. `RateLimit: "default";r=7;t=1` is the state when the response leaves:
/// `r` whole tokens are available, and all are in `t` seconds. Seconds are rounded up, so that no
/// caller comes too early. The numbers describe the shared limit, and follow live changes of the
/// limit. For the numbers of one caller's key, use a [`KeyedRateLimitFieldsLayer`].
///
/// Put the layer outside of the limiter, so that refusals (answered as responses, see
/// [`Respond`](crate::Respond)) carry the fields too. Errors pass unchanged.
///
/// The layer adds its values to fields that are already present. Both fields are lists with one
/// item per policy, so a response through two limiters reports both. Give the limiters different
/// names.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::convert::Infallible;
/// use buttress::rate_limit::RateLimitLayer;
/// use buttress_http::{HttpLayerExt, RateLimitFieldsLayer};
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// let limiter = RateLimitLayer::default();
/// let route = ServiceBuilder::new()
///     .layer(RateLimitFieldsLayer::new(limiter.handle()))
///     .layer(limiter.http())
///     .service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
/// let response = route.oneshot(Request::new(())).await?;
/// assert_eq!(response.headers()["ratelimit-policy"], r#""default";q=10;w=1"#);
/// assert_eq!(response.headers()["ratelimit"], r#""default";r=9;t=1"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RateLimitFieldsLayer {
    source: Arc<Source>,
}

impl RateLimitFieldsLayer {
    /// Reports the limiter behind `handle` under the name `default`, as the examples of the draft
    /// do.
    pub fn new(handle: Handle) -> Self {
        Self { source: Arc::new(Source { name: String::from(r#""default""#), handle }) }
    }

    /// Reports the limiter behind `handle` under the name `name`, which distinguishes several
    /// limiters.
    ///
    /// # Errors
    /// Returns an error if the name is not printable ASCII. These fields cannot carry other
    /// characters.
    pub fn named(handle: Handle, name: &str) -> Result<Self, InvalidConfig> {
        Ok(Self { source: Arc::new(Source { name: structured_string(name)?, handle }) })
    }
}

layered!(RateLimitFieldsLayer => RateLimitFields, |layer, inner| {
    Mapped::new(inner, AddFields { source: layer.source.clone() })
});

/// A service whose responses report the state of a rate limiter. Made by [`RateLimitFieldsLayer`].
pub type RateLimitFields<S> = Mapped<S, AddFields>;

/// The response of a [`RateLimitFields`]. Dropping it cancels the call.
pub type RateLimitFieldsFuture<F> = MappedFuture<F, AddFields>;

/// The function that adds the state of a limiter to a response.
#[derive(Clone, Debug)]
pub struct AddFields {
    source: Arc<Source>,
}

impl<B> MapResponse<Response<B>> for AddFields {
    type Response = Response<B>;

    fn map(&self, mut response: Response<B>) -> Self::Response {
        self.source.append_to(response.headers_mut());
        response
    }
}

/// The source of the fields.
#[derive(Debug)]
struct Source {
    /// The name in the form of the fields: quoted and escaped.
    name: String,
    handle: Handle,
}

impl Source {
    fn append_to(&self, headers: &mut HeaderMap) {
        let Self { name, handle } = self;
        let stats = handle.stats();
        let figures = Figures {
            available: stats.available,
            max_tokens: stats.max_tokens,
            refill_tokens: stats.refill_tokens,
            refill_period: stats.refill_period,
            full_in: stats.full_in,
        };
        append_policy(name, &figures, headers);
        append_state(name, &figures, headers);
    }
}

/// The state of a limit.
struct Figures {
    available: u32,
    max_tokens: u32,
    refill_tokens: u32,
    refill_period: Duration,
    full_in: Duration,
}

fn append_policy(name: &str, figures: &Figures, headers: &mut HeaderMap) {
    let (quota, window) = (figures.max_tokens, window(figures));
    append(headers, RATE_LIMIT_POLICY, format_args!("{name};q={quota};w={window}"));
}

fn append_state(name: &str, figures: &Figures, headers: &mut HeaderMap) {
    let available = figures.available;
    let full_in = u128::from(whole_seconds(figures.full_in)).min(LARGEST_INTEGER);
    append(headers, RATE_LIMIT, format_args!("{name};r={available};t={full_in}"));
}

fn append(headers: &mut HeaderMap, field: HeaderName, value: fmt::Arguments<'_>) {
    // The constructor checked the name, and digits always fit.
    if let Ok(value) = HeaderValue::try_from(value.to_string()) {
        headers.append(field, value);
    }
}

/// Returns the seconds that the limiter takes to refill its bucket.
fn window(figures: &Figures) -> u128 {
    let period = u128::from(figures.refill_tokens.max(1)) * Duration::from_secs(1).as_nanos();
    let nanos = figures.refill_period.as_nanos().saturating_mul(figures.max_tokens.into());
    nanos.div_ceil(period).clamp(1, LARGEST_INTEGER)
}

/// Returns `text` as a string of a structured field, quotes included (RFC 9651, section 3.3.3).
fn structured_string(text: &str) -> Result<String, InvalidConfig> {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                // Writing to a `String` cannot fail.
                let _ = write!(quoted, "\\{c}");
            }
            ' '..='~' => quoted.push(c),
            _ => return Err(InvalidConfig::new("name", format!("{text:?}"), "printable ASCII")),
        }
    }
    quoted.push('"');
    Ok(quoted)
}

#[cfg(test)]
mod tests;
