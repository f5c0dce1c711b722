//! The client's side: keys for requests that have none.

use buttress::Rng;
use http::{HeaderValue, Method, Request};

use super::header::IDEMPOTENCY_KEY;
use crate::writer::writes_requests;

/// A layer that adds an `Idempotency-Key` to every request without one: a random UUID in quotes.
///
/// Place it outside of a retry. Then all attempts of a call carry the same key, and
/// [`IdempotentRequests`](crate::IdempotentRequests) may repeat the call. Inside of a retry, each
/// attempt would have its own key. A call that is repeated later, e.g. after a crash, needs a key
/// that is stored with the call: set that key yourself. The layer keeps a key that is present.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::{Arc, Mutex};
/// use buttress::retry::RetryLayer;
/// use buttress_http::{HttpLayerExt, SetIdempotencyKeyLayer};
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// let seen = Arc::new(Mutex::new(Vec::new()));
/// let log = seen.clone();
/// let client = ServiceBuilder::new()
///     .layer(SetIdempotencyKeyLayer::default())
///     .layer(RetryLayer::default().http()) // 3 attempts
///     .service_fn(move |request: Request<String>| {
///         log.lock().unwrap().push(request.headers()["idempotency-key"].clone());
///         let response = Response::builder().status(503).body(String::new());
///         std::future::ready(response)
///     });
/// client.oneshot(Request::post("/payments").body(String::from("7"))?).await?;
/// let seen = seen.lock().unwrap();
/// assert_eq!(seen.len(), 3);
/// assert!(seen[0] == seen[1] && seen[1] == seen[2]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SetIdempotencyKeyLayer {
    /// Two generators: each has 64 bits of state, and a key needs more.
    rngs: [Rng; 2],
    methods: std::sync::Arc<[Method]>,
}

impl SetIdempotencyKeyLayer {
    /// Draws keys from `rng`, which makes them reproducible. Two layers with the same seed draw the
    /// same keys: use it for tests and simulations only.
    pub fn seeded(rng: Rng) -> Self {
        Self { rngs: [rng.clone(), rng], ..Self::default() }
    }

    /// Sets the methods whose requests get a key. Default: `POST` and `PATCH`.
    pub fn methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        Self { methods: methods.into_iter().collect(), ..self }
    }
}

impl Default for SetIdempotencyKeyLayer {
    /// Draws keys with 122 random bits.
    fn default() -> Self {
        let rngs = [Rng::default(), Rng::default()];
        Self { rngs, methods: [Method::POST, Method::PATCH].into() }
    }
}

/// A service that adds an `Idempotency-Key` to its requests. Made by [`SetIdempotencyKeyLayer`].
#[derive(Clone, Debug)]
pub struct SetIdempotencyKey<S> {
    inner: S,
    layer: SetIdempotencyKeyLayer,
}

writes_requests!(SetIdempotencyKeyLayer, SetIdempotencyKey);

impl SetIdempotencyKeyLayer {
    fn write_into<B>(&self, request: &mut Request<B>) {
        let wants = self.methods.contains(request.method());
        if wants && !request.headers().contains_key(IDEMPOTENCY_KEY) {
            let [high, low] = &self.rngs;
            // Digits, hyphens and quotes always form a valid value.
            if let Ok(key) = HeaderValue::try_from(uuid(high.next_u64(), low.next_u64())) {
                request.headers_mut().insert(IDEMPOTENCY_KEY, key);
            }
        }
    }
}

/// Returns a random UUID (RFC 9562, version 4) as a string of RFC 8941.
fn uuid(high: u64, low: u64) -> String {
    let (high, low) = (high & !0xf000 | 0x4000, low & !(3 << 62) | 1 << 63);
    let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0xffff);
    format!(r#""{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}""#, low >> 48, low & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{Ready, ready};

    use http::HeaderMap;

    use tower::{Layer, Service};

    use super::*;
    use crate::idempotency_key::header::Syntax;

    /// The headers that a service behind the layer receives.
    fn seen(layer: &SetIdempotencyKeyLayer, request: Request<()>) -> HeaderMap {
        let echo = |request: Request<()>| -> Ready<Result<HeaderMap, Infallible>> {
            ready(Ok(request.into_parts().0.headers))
        };
        layer.layer(tower::service_fn(echo)).call(request).into_inner().unwrap()
    }

    fn key(layer: &SetIdempotencyKeyLayer) -> String {
        let headers = seen(layer, Request::post("/").body(()).unwrap());
        Syntax { strict: true, longest: 36 }.find(&headers).unwrap().unwrap()
    }

    #[test]
    fn a_key_is_a_uuid_of_version_4() {
        assert_eq!(uuid(0, 0), r#""00000000-0000-4000-8000-000000000000""#);
        assert_eq!(uuid(u64::MAX, u64::MAX), r#""ffffffff-ffff-4fff-bfff-ffffffffffff""#);
        let all = uuid(0x0011_2233_4455_6677, 0x8899_aabb_ccdd_eeff);
        assert_eq!(all, r#""00112233-4455-4677-8899-aabbccddeeff""#);
    }

    #[test]
    fn every_request_has_a_key_of_its_own() {
        let layer = SetIdempotencyKeyLayer::default();
        let keys: std::collections::BTreeSet<_> = (0..1000).map(|_| key(&layer)).collect();
        assert_eq!(keys.len(), 1000);
        assert_ne!(key(&layer), key(&SetIdempotencyKeyLayer::default()));
        let seeded = || SetIdempotencyKeyLayer::seeded(Rng::seeded(7));
        assert_eq!(key(&seeded()), key(&seeded()));
    }

    #[test]
    fn a_key_that_is_there_stays_and_other_methods_get_none() {
        let layer = SetIdempotencyKeyLayer::default();
        let own = Request::post("/").header(IDEMPOTENCY_KEY, "own").body(()).unwrap();
        assert_eq!(seen(&layer, own)["idempotency-key"], "own");
        let put = || Request::put("/").body(()).unwrap();
        assert!(seen(&layer, put()).is_empty());
        assert_eq!(seen(&layer.methods([Method::PUT]), put()).len(), 1);
    }
}
