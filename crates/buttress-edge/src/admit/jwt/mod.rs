//! [`Jwt`]: bearer tokens with a signature (RFC 7519, RFC 6750).

mod cache;
mod check;
mod claims;
mod fetch;
mod keys;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod token;
mod why;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::{Clock, InvalidConfig};
use http::Request;
use http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use self::cache::Cache;
use self::check::{Judged, Source};
use self::claims::Rules;
use self::fetch::KeyUrl;
use self::keys::{Key, KeySet};
use self::server::KeyServer;
use self::why::Why;
use crate::admit::credentials::{Given, bearer};
use crate::{Admission, Admit, Body, Denied};

pub use server::{FetchKeys, Fetching};

/// An admission of requests with a bearer token: a JSON Web Token in `Authorization: Bearer <token>`.
///
/// The subject of the request is the claim `sub`. A token needs a valid signature, `exp`, `sub`, and an accepted issuer
/// and audience. The proxy refuses a `Jwt` without [`issuer`](Self::issuer) or [`audience`](Self::audience), unless
/// [`any_issuer`](Self::any_issuer) or [`any_audience`](Self::any_audience) says that this is meant.
///
/// ```
/// use buttress_edge::{Jwt, Route, Upstream};
///
/// let secret = b"32 random bytes, from a secret store";
/// let orders = Route::new("orders")
///     .to(Upstream::fixed(["http://10.0.0.1:8001"])?)
///     .admit(Jwt::hs256(secret)?.issuer("https://id.example").audience("shop"));
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
///
/// # Answers
///
/// | token | answer |
/// |---|---|
/// | missing, malformed, expired, with an invalid signature, an unknown key, or another issuer or audience | 401 |
/// | valid, without a claim or scope that the route requires | 403 |
/// | its key is unknown, and the key server does not answer | 503 with `Retry-After` |
///
/// `WWW-Authenticate` has the reason in `error_description`. Neither answers nor logs have text of a token.
///
/// # Rules
///
/// - The algorithm is the key's, and the token's `alg` must be equal to it. So `none` is refused, and so is HS256 with a
///   public key as its secret.
/// - The clocks of issuer and proxy may differ by 60 seconds.
/// - A token has at most 16 KiB. A claim that occurs twice, a critical extension, and dates that are not numbers
///   between 1970 and 9999 are refused.
/// - A subject has 1 to 255 ASCII characters without controls, as OpenID Connect Core 2 says. So it can be a header
///   field.
///
/// # Cache
///
/// A verified token is remembered by its SHA-256, together with its key. At most 10 000 tokens are remembered, per set
/// of rules. The cache checks `exp` and `nbf` again, and forgets the tokens of a key that the key server removed.
/// Refused tokens are not remembered. Clones with the same rules share the cache.
#[derive(Clone, Debug)]
#[must_use]
pub struct Jwt {
    source: Source,
    rules: Rules,
    insecure: bool,
    clock: Clock,
    /// The verified tokens of these rules.
    cache: Arc<Mutex<Cache>>,
}

impl Jwt {
    /// Accepts tokens of HS256, signed with `secret`.
    ///
    /// Every service that verifies such tokens can also make them. Use RS256 or a key server if the services do not
    /// trust each other.
    ///
    /// # Errors
    /// Returns an error if the secret has fewer than 32 bytes, the length of the hash (RFC 7518, 3.2).
    pub fn hs256(secret: impl AsRef<[u8]>) -> Result<Self, InvalidConfig> {
        Ok(Self::of(Source::Fixed(Arc::new(KeySet::of(Key::hs256(secret.as_ref())?)))))
    }

    /// Accepts tokens of RS256. `pem` is a public key, as `BEGIN PUBLIC KEY` or `BEGIN RSA PUBLIC KEY`.
    ///
    /// # Errors
    /// Returns an error if `pem` is not a public RSA key, is a private key, or has fewer than 2048 (RFC 7518, 3.3) or
    /// more than 4096 bits.
    pub fn rs256_pem(pem: &str) -> Result<Self, InvalidConfig> {
        Ok(Self::of(Source::Fixed(Arc::new(KeySet::of(Key::rs256_pem(pem)?)))))
    }

    /// Accepts tokens that a key of a JWKS document (RFC 7517) verifies. `url` is where the key server has the
    /// document.
    ///
    /// - `https` needs the feature `tls`. `http` needs [`insecure`](Self::insecure).
    /// - Only keys with `"use": "sig"` are read, at most 100, of RS256 to RS512, PS256 to PS512, ES256, ES384 and
    ///   EdDSA. An RSA key without `alg` is one of RS256. Keys of other kinds, RSA keys below 2048 bits and private keys
    ///   are left out.
    /// - The proxy fetches the document at the first request. From an age of 5 minutes on, a request starts a fetch in
    ///   the background. A token with an unknown `kid` starts one too, and waits for it. A fetch begins at most every
    ///   10 seconds, whatever requests arrive. At most one fetch runs.
    /// - Keys serve for 24 hours while the key server is unavailable. Without keys the answer is 503.
    /// - A fetch follows no redirects, takes at most 5 seconds, and reads at most 256 KiB.
    ///
    /// Clones share the keys.
    ///
    /// # Errors
    /// Returns an error if `url` is not a URL of http or https with a host, or has a user name. For https, also returns
    /// an error if the root certificates of the operating system cannot be read.
    ///
    /// # Panics
    /// A request panics outside of a tokio runtime.
    pub fn jwks(url: &str) -> Result<Self, InvalidConfig> {
        Ok(Self::of_url(KeyUrl::parse(url)?))
    }

    /// Accepts tokens like [`jwks`](Self::jwks), with a document that `fetch` returns.
    ///
    /// ```
    /// use buttress_edge::Jwt;
    ///
    /// let jwt = Jwt::jwks_with(|| async {
    ///     let document = std::fs::read("/run/secrets/jwks.json")?;
    ///     Ok(document.into())
    /// });
    /// let jwt = jwt.issuer("https://id.example").audience("shop");
    /// ```
    ///
    /// # Panics
    /// A request panics outside of a tokio runtime.
    pub fn jwks_with(fetch: impl FetchKeys + 'static) -> Self {
        let server = Arc::new(KeyServer::new(fetch));
        Self::of(Source::Served { server, is_secure: true })
    }

    fn of_url(url: KeyUrl) -> Self {
        let is_secure = url.is_secure();
        let server = Arc::new(KeyServer::new(url));
        Self::of(Source::Served { server, is_secure })
    }

    fn of(source: Source) -> Self {
        let rules = Rules::default();
        Self { source, rules, insecure: false, clock: Clock::default(), cache: Arc::default() }
    }

    /// Accepts tokens of this issuer: the claim `iss`, byte for byte. Several calls accept several issuers.
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        self.with(|rules| rules.issuers.push(issuer.into()))
    }

    /// Accepts tokens for this audience: the claim `aud` is this text, or a list with it. Several calls accept
    /// several audiences.
    ///
    /// Without it a token that a caller gave to another service would be accepted here.
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.with(|rules| rules.audiences.push(audience.into()))
    }

    /// Accepts tokens of every issuer that has the key.
    pub fn any_issuer(self) -> Self {
        self.with(|rules| rules.any_issuer = true)
    }

    /// Accepts tokens for every audience, and tokens without `aud`.
    pub fn any_audience(self) -> Self {
        self.with(|rules| rules.any_audience = true)
    }

    /// Requires that a claim is this text, or a list with it. A valid token without it is answered with 403. Several
    /// calls require all of the claims.
    pub fn require(self, claim: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|rules| rules.required.push((claim.into(), value.into())))
    }

    /// Requires a scope: a word of the claim `scope` or `scp`, or an entry if the claim is a list. A valid token
    /// without it is answered with 403. Several calls require all of the scopes.
    pub fn require_scope(self, scope: impl Into<String>) -> Self {
        self.with(|rules| rules.scopes.push(scope.into()))
    }

    /// Accepts a key server without TLS. Anyone on the way to it can then make valid tokens: use it only for a key
    /// server on the same machine, or in tests. Default: off.
    pub fn insecure(mut self) -> Self {
        self.insecure = true;
        self
    }

    /// Sets the clock of dates, fetches and limits. Default: tokio's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Changes the rules. The result has its own cache: a token that other rules accepted is not verified here.
    fn with(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(&mut self.rules);
        self.cache = Arc::default();
        self
    }
}

impl Admit for Jwt {
    fn admit(&self, request: Request<Body>) -> Admission {
        let token = match bearer(request.headers()) {
            Given::Value(token) => token,
            Given::Missing => return Admission::Now(Err(denied(Why::Missing))),
            Given::Malformed => return Admission::Now(Err(denied(Why::MalformedField))),
        };
        let waiting = match self.judge(token, false) {
            Judged::Wait(waiting) => waiting,
            judged => return admission(request, judged),
        };
        let (jwt, token) = (self.clone(), token.to_owned());
        Admission::later(async move {
            waiting.ended().await;
            let judged = jwt.judge(&token, true);
            admission(request, judged).decided().await
        })
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        let Rules { issuers, any_issuer, audiences, any_audience, required, scopes } = &self.rules;
        let missing = |field, bound| Err(InvalidConfig::new(field, "nothing", bound));
        if !self.insecure && matches!(self.source, Source::Served { is_secure: false, .. }) {
            let bound = "https, unless `.insecure()` is called";
            return Err(InvalidConfig::new("jwks", "a URL of http", bound));
        }
        if issuers.is_empty() && !any_issuer {
            return missing("issuer", "stated: call `.issuer(..)` or `.any_issuer()`");
        }
        if audiences.is_empty() && !any_audience {
            return missing("audience", "stated: call `.audience(..)` or `.any_audience()`");
        }
        let given = issuers.iter().map(|issuer| ("issuer", issuer));
        let given = given.chain(audiences.iter().map(|audience| ("audience", audience)));
        let given = given.chain(scopes.iter().map(|scope| ("require-scope", scope)));
        let mut given = given.chain(required.iter().map(|(claim, _)| ("require", claim)));
        match given.find(|(_, text)| text.is_empty()) {
            Some((field, _)) => Err(InvalidConfig::new(field, "an empty text", "a text")),
            None => Ok(()),
        }
    }
}

fn admission(mut request: Request<Body>, judged: Judged) -> Admission {
    Admission::Now(match judged {
        Judged::Admitted(subject) => {
            request.extensions_mut().insert(subject);
            Ok(request)
        }
        Judged::Denied(why) => Err(denied(why)),
        Judged::Unavailable(wait) => Err(unavailable(wait)),
        // A request waits at most once.
        Judged::Wait(_) => Err(unavailable(Duration::ZERO)),
    })
}

/// Returns the answer to a refused token, with a challenge (RFC 6750, 3).
fn denied(why: Why) -> Denied {
    let error = if why.is_forbidden() { "insufficient_scope" } else { "invalid_token" };
    let challenge = match why {
        // Without credentials no error code (RFC 6750, 3.1).
        Why::Missing => String::from("Bearer"),
        why => format!(r#"Bearer error="{error}", error_description="{}""#, why.text()),
    };
    let challenge = HeaderValue::try_from(challenge);
    let challenge = challenge.unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
    tracing::debug!(why = why.text(), "a token was refused");
    if !why.is_forbidden() {
        return Denied::unauthenticated(challenge);
    }
    let mut denied = Denied::forbidden();
    denied.response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    denied
}

/// Returns the answer to a request that cannot be judged before `wait` has passed.
fn unavailable(wait: Duration) -> Denied {
    let mut denied = Denied::unavailable();
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    denied.response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    denied
}
