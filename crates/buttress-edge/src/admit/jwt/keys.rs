//! The keys that verify tokens, and the documents that have them (RFC 7517).

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use buttress::InvalidConfig;
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, DecodingKey};
use rsa::pkcs1::{DecodeRsaPublicKey, EncodeRsaPublicKey};
use rsa::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, RsaPublicKey};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The most keys of a document.
const MOST_KEYS: usize = 100;

/// The shortest secret of HS256: RFC 7518, 3.2, wants one as long as the hash.
const SHORTEST_SECRET: usize = 32;

/// The shortest RSA key in bits: RFC 7518, 3.3. The crate `rsa` accepts at most 4096 bits.
const SHORTEST_RSA: usize = 2048;

/// A key that verifies tokens of one algorithm.
pub(super) struct Key {
    /// `None` for a key that serves tokens with any `kid`.
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    /// SHA-256 of the other fields.
    print: [u8; 32],
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Key {
    /// `material` must differ for different keys.
    fn new(kid: Option<String>, algorithm: Algorithm, key: DecodingKey, material: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(format!("{algorithm:?} {kid:?} "));
        hash.update(material);
        Self { kid, algorithm, key, print: hash.finalize().into() }
    }

    pub(super) fn hs256(secret: &[u8]) -> Result<Self, InvalidConfig> {
        if secret.len() < SHORTEST_SECRET {
            let value = format!("a secret of {} bytes", secret.len());
            let bound = format!("a random secret of at least {SHORTEST_SECRET} bytes");
            return Err(InvalidConfig::new("hs256", value, bound));
        }
        Ok(Self::new(None, Algorithm::HS256, DecodingKey::from_secret(secret), secret))
    }

    pub(super) fn rs256_pem(pem: &str) -> Result<Self, InvalidConfig> {
        let refused = |value: String| {
            let bound = "a public RSA key of 2048 to 4096 bits, in PEM";
            InvalidConfig::new("rs256-pem", value, bound)
        };
        if pem.contains("PRIVATE KEY") {
            return Err(refused(String::from("a private key")));
        }
        let key = RsaPublicKey::from_public_key_pem(pem)
            .ok()
            .or_else(|| RsaPublicKey::from_pkcs1_pem(pem).ok())
            .ok_or_else(|| refused(format!("a text of {} bytes", pem.len())))?;
        let bits = key.n().bits();
        Self::rsa(None, Algorithm::RS256, &key)
            .ok_or_else(|| refused(format!("a key of {bits} bits")))
    }

    /// Returns `None` for a key that is too short.
    fn rsa(kid: Option<String>, algorithm: Algorithm, key: &RsaPublicKey) -> Option<Self> {
        if key.n().bits() < SHORTEST_RSA {
            return None;
        }
        let der = key.to_pkcs1_der().ok()?;
        let key = DecodingKey::from_rsa_der(der.as_bytes());
        Some(Self::new(kid, algorithm, key, der.as_bytes()))
    }

    /// Reads a key of a document. Returns `None` for a key that does not verify signatures, and for one that is
    /// malformed, too short or of an algorithm that is not supported.
    fn of_jwk(jwk: Jwk) -> Option<Self> {
        // A document is public: the key of HS256 in it is known to all, and a private key too.
        if jwk.usage.as_deref() != Some("sig") || jwk.d.is_some() {
            return None;
        }
        let key = match (&*jwk.kty, jwk.crv.as_deref()) {
            ("RSA", None) => {
                let number = |text: Option<&String>| Some(BigUint::from_bytes_be(&bytes(text)?));
                let key = RsaPublicKey::new(number(jwk.n.as_ref())?, number(jwk.e.as_ref())?);
                let algorithm = jwk.algorithm(Algorithm::RS256, |algorithm| {
                    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
                    matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512)
                })?;
                Self::rsa(jwk.kid, algorithm, &key.ok()?)?
            }
            ("EC", Some(curve @ ("P-256" | "P-384"))) => {
                let (only, length) = match curve {
                    "P-256" => (Algorithm::ES256, 32),
                    _ => (Algorithm::ES384, 48),
                };
                let algorithm = jwk.algorithm(only, |algorithm| algorithm == only)?;
                let (x, y) = (bytes(jwk.x.as_ref())?, bytes(jwk.y.as_ref())?);
                if (x.len(), y.len()) != (length, length) {
                    return None;
                }
                // An uncompressed point, as SEC 1 has it.
                let point = [&[4][..], &x, &y].concat();
                Self::new(jwk.kid, algorithm, DecodingKey::from_ec_der(&point), &point)
            }
            ("OKP", Some("Ed25519")) => {
                let only = Algorithm::EdDSA;
                let algorithm = jwk.algorithm(only, |algorithm| algorithm == only)?;
                // The verifier would panic on a shorter key.
                let x = bytes(jwk.x.as_ref()).filter(|x| x.len() == 32)?;
                Self::new(jwk.kid, algorithm, DecodingKey::from_ed_der(&x), &x)
            }
            _ => return None,
        };
        // A point that is not on its curve, for example.
        (DEFAULT_PROVIDER.verifier_factory)(&key.algorithm, &key.key).is_ok().then_some(key)
    }

    /// Whether `signature` is this key's signature of `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &Vec<u8>) -> bool {
        // The provider by name: the default one of the process panics if another crate switches a second one on.
        let verifier = (DEFAULT_PROVIDER.verifier_factory)(&self.algorithm, &self.key);
        verifier.is_ok_and(|verifier| verifier.verify(message, signature).is_ok())
    }

    pub(super) fn print(&self) -> [u8; 32] {
        self.print
    }
}

/// The fields of a JWK that are read.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<IgnoredAny>,
}

impl Jwk {
    /// Returns the algorithm of the key, `default` if it names none, or `None` if it names one that it cannot have.
    fn algorithm(&self, default: Algorithm, fits: impl Fn(Algorithm) -> bool) -> Option<Algorithm> {
        let Some(name) = &self.alg else { return Some(default) };
        name.parse().ok().filter(|algorithm| fits(*algorithm))
    }
}

fn bytes(text: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}

/// The keys that are valid at the same time.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Arc<Key>>,
}

/// The key of a token.
#[derive(Debug)]
pub(super) enum Found<'k> {
    Key(&'k Arc<Key>),
    /// No key has this `kid`.
    Unknown,
    /// The keys with this `kid` have other algorithms.
    WrongAlgorithm,
    /// The token has no `kid`, and several keys have the algorithm.
    Ambiguous,
}

impl KeySet {
    pub(super) fn of(key: Key) -> Self {
        Self { keys: vec![Arc::new(key)] }
    }

    /// Reads a JWKS document. Keys that cannot verify tokens are left out.
    pub(super) fn parse(document: &[u8]) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document =
            serde_json::from_slice(document).map_err(|_| "the answer is not a JWKS document")?;
        if document.keys.len() > MOST_KEYS {
            return Err("the document has more than 100 keys");
        }
        let keys = document.keys.into_iter();
        let keys = keys.filter_map(|key| Key::of_jwk(serde_json::from_value(key).ok()?));
        Ok(Self { keys: keys.map(Arc::new).collect() })
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn has(&self, print: [u8; 32]) -> bool {
        self.keys.iter().any(|key| key.print == print)
    }

    /// Finds the key of a token by its `kid`. The algorithm of the token only confirms the key's.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        let named = kid.is_some() && self.keys.iter().any(|key| key.kid.as_deref() == kid);
        // A key without a name serves the tokens that no key is named for.
        let serves = |key: &Key| match kid {
            None => true,
            Some(_) if named => key.kid.as_deref() == kid,
            Some(_) => key.kid.is_none(),
        };
        let mut keys: Vec<_> = self.keys.iter().filter(|key| serves(key)).collect();
        if keys.is_empty() && kid.is_some() {
            return Found::Unknown;
        }
        keys.retain(|key| key.algorithm == algorithm);
        match &*keys {
            [key] => Found::Key(key),
            [] => Found::WrongAlgorithm,
            // A document that has a `kid` twice.
            [key, ..] if named => Found::Key(key),
            _ => Found::Ambiguous,
        }
    }
}
