use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress::rate_limit::{KeyedHandle, OneRule, Rules};
use buttress::{ErrorKind, InvalidConfig};
use http::Response;
use tower::{Layer, Service};

use super::{Figures, append_policy, append_state, structured_string};
use crate::Refusal;
use crate::mapped::{MapResponse, MappedFuture};

/// A layer that adds the `RateLimit-Policy` and `RateLimit` fields of a keyed rate limiter to every
/// response. The numbers describe the caller's own key and plan.
///
/// The fields mean the same as in a [`RateLimitFieldsLayer`](super::RateLimitFieldsLayer). Put the
/// layer outside of the limiter, and give it the limiter's closure for the key. A limiter without
/// room for another key refuses the call. That response carries the policy only, because its caller
/// has no bucket.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{convert::Infallible, time::Duration};
/// use buttress::rate_limit::{Config, KeyedRateLimitLayer};
/// use buttress_http::client_key::{HeaderKey, HeaderKeys};
/// use buttress_http::{HttpLayerExt, KeyedRateLimitFieldsLayer};
/// use http::{HeaderName, Request, Response};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// let per_second = |n| Config::new().max_tokens(n).refill(n, Duration::from_secs(1));
/// let tenant = HeaderKeys::new(HeaderName::from_static("x-tenant")).key::<()>();
/// let limiter = KeyedRateLimitLayer::with_plans(
///     per_second(2),
///     10_000,
///     tenant.clone(),
///     [("pro", per_second(20))],
///     |tenant: &HeaderKey| if tenant.as_bytes() == Some(b"acme") { "pro" } else { "free" },
/// )?;
/// let route = ServiceBuilder::new()
///     .layer(KeyedRateLimitFieldsLayer::new(limiter.handle(), tenant))
///     .layer(limiter.http())
///     .service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
///
/// let from = |tenant: &str| Request::builder().header("x-tenant", tenant).body(());
/// let acme = route.clone().oneshot(from("acme")?).await?;
/// assert_eq!(acme.headers()["ratelimit-policy"], r#""default";q=20;w=1"#);
/// assert_eq!(acme.headers()["ratelimit"], r#""default";r=19;t=1"#);
/// let other = route.oneshot(from("other")?).await?;
/// assert_eq!(other.headers()["ratelimit"], r#""default";r=1;t=1"#);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct KeyedRateLimitFieldsLayer<K, X, P: Rules<K> = OneRule> {
    source: Arc<Source<K, P>>,
    key: X,
}

impl<K, X, P: Rules<K>> KeyedRateLimitFieldsLayer<K, X, P> {
    /// Shows the limiter behind `handle` under the name `default`, for the key that `key` finds.
    pub fn new<Req>(handle: KeyedHandle<K, P>, key: X) -> Self
    where
        X: Fn(&Req) -> K,
    {
        Self { source: Arc::new(Source { name: String::from(r#""default""#), handle }), key }
    }

    /// Shows the limiter under the name `name`, which distinguishes several limiters.
    ///
    /// # Errors
    /// Returns an error if the name is not printable ASCII. These fields cannot carry other
    /// characters.
    pub fn named<Req>(handle: KeyedHandle<K, P>, key: X, name: &str) -> Result<Self, InvalidConfig>
    where
        X: Fn(&Req) -> K,
    {
        Ok(Self { source: Arc::new(Source { name: structured_string(name)?, handle }), key })
    }
}

impl<K, X: Clone, P: Rules<K>> Clone for KeyedRateLimitFieldsLayer<K, X, P> {
    fn clone(&self) -> Self {
        Self { source: self.source.clone(), key: self.key.clone() }
    }
}

impl<K, X, P: Rules<K>> fmt::Debug for KeyedRateLimitFieldsLayer<K, X, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimitFieldsLayer")
            .field("name", &self.source.name)
            .field("handle", &self.source.handle)
            .finish_non_exhaustive()
    }
}

impl<S, K, X: Clone, P: Rules<K>> Layer<S> for KeyedRateLimitFieldsLayer<K, X, P> {
    type Service = KeyedRateLimitFields<S, K, X, P>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedRateLimitFields { inner, layer: self.clone() }
    }
}

/// A service whose responses show the limit of the caller's key. Made by
/// [`KeyedRateLimitFieldsLayer`].
pub struct KeyedRateLimitFields<S, K, X, P: Rules<K> = OneRule> {
    inner: S,
    layer: KeyedRateLimitFieldsLayer<K, X, P>,
}

impl<S, K, X, P, Req, B> Service<Req> for KeyedRateLimitFields<S, K, X, P>
where
    S: Service<Req, Response = Response<B>>,
    K: Hash + Eq + Clone,
    X: Fn(&Req) -> K,
    P: Rules<K>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = KeyedRateLimitFieldsFuture<S::Future, K, P>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let key = (self.layer.key)(&request);
        let source = self.layer.source.clone();
        MappedFuture::new(self.inner.call(request), AddFields { key, source })
    }
}

impl<S: Clone, K, X: Clone, P: Rules<K>> Clone for KeyedRateLimitFields<S, K, X, P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, K, X, P: Rules<K>> fmt::Debug for KeyedRateLimitFields<S, K, X, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimitFields")
            .field("inner", &self.inner)
            .field("layer", &self.layer)
            .finish()
    }
}

/// The response of a [`KeyedRateLimitFields`]. Dropping it cancels the call.
pub type KeyedRateLimitFieldsFuture<F, K, P> = MappedFuture<F, AddFields<K, P>>;

/// The change of a response: it reports the limit of its caller's key.
pub struct AddFields<K, P: Rules<K>> {
    key: K,
    source: Arc<Source<K, P>>,
}

impl<K, P, B> MapResponse<Response<B>> for AddFields<K, P>
where
    K: Hash + Eq + Clone,
    P: Rules<K>,
{
    type Response = Response<B>;

    fn map(&self, mut response: Response<B>) -> Self::Response {
        let Source { name, handle } = &*self.source;
        let limit = handle.limit_of(&self.key);
        let figures = Figures {
            available: limit.available,
            max_tokens: limit.max_tokens,
            refill_tokens: limit.refill_tokens,
            refill_period: limit.refill_period,
            full_in: limit.full_in,
        };
        let refusal = Refusal::of(&response).map(|refusal| refusal.error().kind());
        append_policy(name, &figures, response.headers_mut());
        if refusal != Some(ErrorKind::TooManyKeys) {
            append_state(name, &figures, response.headers_mut());
        }
        response
    }
}

impl<K, P: Rules<K>> fmt::Debug for AddFields<K, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddFields").finish_non_exhaustive()
    }
}

/// The source of the fields.
struct Source<K, P: Rules<K>> {
    /// Quoted and escaped, as in the fields.
    name: String,
    handle: KeyedHandle<K, P>,
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use buttress::rate_limit::{Config, KeyedRateLimitLayer, Plans};
    use http::{Request, StatusCode};
    use tower::{BoxError, ServiceBuilder, ServiceExt};

    use super::*;
    use crate::HttpLayerExt;

    fn per_second(tokens: u32) -> Config {
        Config::new().max_tokens(tokens).refill(tokens, Duration::from_secs(1))
    }

    fn key(request: &Request<u32>) -> u32 {
        *request.body()
    }

    type Limiter = KeyedRateLimitLayer<
        u32,
        fn(&Request<u32>) -> u32,
        buttress::AsError,
        buttress::rate_limit::OneToken,
        Plans<u32, &'static str>,
    >;

    fn limiter(max_keys: usize) -> Limiter {
        let plans = [("free", per_second(2)), ("pro", per_second(20))];
        let plan_of = |key: &u32| if *key < 100 { "free" } else { "pro" };
        let find = key as fn(&Request<u32>) -> u32;
        KeyedRateLimitLayer::with_plans(per_second(1), max_keys, find, plans, plan_of).unwrap()
    }

    async fn fields(limiter: &Limiter, key_of_caller: u32) -> (StatusCode, Vec<String>) {
        let route = ServiceBuilder::new()
            .layer(KeyedRateLimitFieldsLayer::new(limiter.handle(), key))
            .layer(limiter.clone().http())
            .service_fn(async |_: Request<u32>| Ok::<_, Infallible>(Response::new(String::new())));
        let response = route.oneshot(Request::new(key_of_caller)).await.unwrap();
        let text = |name| response.headers().get(name)?.to_str().ok().map(str::to_owned);
        let fields = ["ratelimit-policy", "ratelimit", "retry-after"].into_iter().filter_map(text);
        (response.status(), fields.collect())
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_sees_the_numbers_of_its_own_key_and_plan() {
        let limiter = limiter(8);
        let (free, pro) = (r#""default";q=2;w=1"#, r#""default";q=20;w=1"#);
        for (key, status, expected) in [
            (1, 200, vec![free, r#""default";r=1;t=1"#]),
            (100, 200, vec![pro, r#""default";r=19;t=1"#]),
            (1, 200, vec![free, r#""default";r=0;t=1"#]),
            (2, 200, vec![free, r#""default";r=1;t=1"#]),
            (1, 429, vec![free, r#""default";r=0;t=1"#, "1"]),
            (100, 200, vec![pro, r#""default";r=18;t=1"#]),
        ] {
            let (answered, fields) = fields(&limiter, key).await;
            assert_eq!(
                (answered.as_u16(), fields),
                (status, expected.iter().map(|s| s.to_string()).collect()),
                "{key}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_plan_is_shown_immediately() {
        let limiter = limiter(8);
        fields(&limiter, 1).await;
        let slow = Config::new().max_tokens(4).refill(1, Duration::from_secs(60));
        limiter.handle().reconfigure_plan(&"free", &slow).unwrap();
        let (_, changed) = fields(&limiter, 1).await;
        assert_eq!(changed, [r#""default";q=4;w=240"#, r#""default";r=0;t=240"#]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_without_a_bucket_is_promised_no_tokens() {
        let limiter = limiter(1);
        fields(&limiter, 1).await;
        let (status, fields) = fields(&limiter, 2).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(fields.first().unwrap(), r#""default";q=2;w=1"#);
        assert!(!fields.iter().any(|field| field.contains(";r=")), "{fields:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_rule_for_all_keys_and_a_name() {
        let limiter = KeyedRateLimitLayer::new(per_second(3), 8, key).unwrap();
        let layer = KeyedRateLimitFieldsLayer::named(limiter.handle(), key, "per \"key\"").unwrap();
        let route = ServiceBuilder::new().layer(layer).service_fn(async |request: Request<u32>| {
            match request.into_body() {
                0 => Err(BoxError::from("broken")),
                _ => Ok(Response::new(())),
            }
        });
        let response = route.clone().oneshot(Request::new(1)).await.unwrap();
        assert_eq!(response.headers()["ratelimit"], r#""per \"key\"";r=3;t=0"#);
        // Asking takes no place in the map.
        assert_eq!(limiter.handle().stats().keys, 0);
        assert_eq!(route.oneshot(Request::new(0)).await.unwrap_err().to_string(), "broken");
        let error = KeyedRateLimitFieldsLayer::named(limiter.handle(), key, "größe").unwrap_err();
        assert_eq!(error.field(), "name");
    }
}
