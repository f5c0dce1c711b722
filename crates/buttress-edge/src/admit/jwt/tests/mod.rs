//! Tokens that tests sign with their own keys, made by openssl for these tests alone.

mod cached;
mod hostile;
mod judged;
mod proxied;
mod served;
mod states;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use buttress::Clock;
use http::{Request, Response, StatusCode};
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, EncodingKey};
use rsa::RsaPublicKey;
use rsa::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};

use super::Jwt;
use crate::{Admission, Admit, Body, DeniedKind, Subject};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const RSA_A: &str = include_str!("keys/rsa_a.pem");
const RSA_A_PUBLIC: &str = include_str!("keys/rsa_a.pub.pem");
const RSA_B: &str = include_str!("keys/rsa_b.pem");
const RSA_B_PUBLIC: &str = include_str!("keys/rsa_b.pub.pem");
const RSA_1024_PUBLIC: &str = include_str!("keys/rsa_1024.pub.pem");

/// The bytes of a PEM text.
fn der(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    STANDARD.decode(lines.collect::<String>()).unwrap()
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns a token with exactly these texts as header and claims.
fn signed(header: &str, claims: &str, algorithm: Algorithm, key: &EncodingKey) -> String {
    let message = format!("{}.{}", base64(header), base64(claims));
    let signer = (DEFAULT_PROVIDER.signer_factory)(&algorithm, key).unwrap();
    let signature = signer.sign(message.as_bytes());
    format!("{message}.{}", base64(signature))
}

fn hs256(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET);
    signed(r#"{"alg":"HS256"}"#, &claims.to_string(), Algorithm::HS256, &key)
}

/// The private part of an RSA key, which openssl keeps inside of PKCS #8.
fn rsa_key(pem: &str) -> EncodingKey {
    use rsa::pkcs1::EncodeRsaPrivateKey;
    use rsa::pkcs8::DecodePrivateKey;
    let key = rsa::RsaPrivateKey::from_pkcs8_pem(pem).unwrap();
    EncodingKey::from_rsa_der(key.to_pkcs1_der().unwrap().as_bytes())
}

/// A token of RS256 with this `kid`.
fn rs256(kid: &str, pem: &str, claims: &Value) -> String {
    let header = json!({ "alg": "RS256", "kid": kid }).to_string();
    signed(&header, &claims.to_string(), Algorithm::RS256, &rsa_key(pem))
}

fn rsa_jwk(kid: &str, public: &str) -> Value {
    let key = RsaPublicKey::from_public_key_pem(public).unwrap();
    let (n, e) = (base64(key.n().to_bytes_be()), base64(key.e().to_bytes_be()));
    json!({ "kty": "RSA", "use": "sig", "kid": kid, "n": n, "e": e })
}

fn document(keys: impl IntoIterator<Item = Value>) -> Vec<u8> {
    json!({ "keys": keys.into_iter().collect::<Vec<_>>() }).to_string().into_bytes()
}

/// Claims that are valid for an hour.
fn claims(clock: &Clock) -> Value {
    json!({
        "iss": "https://id.example",
        "aud": "shop",
        "sub": "customer-7",
        "exp": clock.unix().as_secs() + 3600,
    })
}

/// `claims` with one of them changed; removed for null.
fn with(mut claims: Value, name: &str, value: Value) -> Value {
    let map = claims.as_object_mut().unwrap();
    map.insert(name.to_owned(), value.clone());
    if value.is_null() {
        map.remove(name);
    }
    claims
}

fn ours(jwt: Jwt) -> Jwt {
    let jwt = jwt.issuer("https://id.example").audience("shop");
    jwt.check().unwrap();
    jwt
}

fn of_secret() -> Jwt {
    ours(Jwt::hs256(SECRET).unwrap())
}

/// The answer that a client sees.
#[derive(PartialEq, Debug)]
enum Seen {
    Admitted(String),
    Refused(u16, String),
}

impl Seen {
    fn refused(why: &str) -> Self {
        let challenge = format!(r#"Bearer error="invalid_token", error_description="{why}""#);
        Self::Refused(401, challenge)
    }

    fn customer() -> Self {
        Self::Admitted(String::from("customer-7"))
    }

    fn unavailable(seconds: u64) -> Self {
        Self::Refused(503, seconds.to_string())
    }
}

async fn send(jwt: &Jwt, fields: &[&str]) -> Result<Request<Body>, (DeniedKind, Response<Body>)> {
    let mut request = Request::get("/");
    for field in fields {
        request = request.header("authorization", *field);
    }
    let decision = match jwt.admit(request.body(Body::empty()).unwrap()) {
        Admission::Now(decision) => decision,
        Admission::Later(decision) => decision.await,
    };
    decision.map_err(|denied| (denied.kind, denied.response))
}

/// Sends a request with `Authorization` fields.
async fn seen_of(jwt: &Jwt, fields: &[&str]) -> Seen {
    let (kind, response) = match send(jwt, fields).await {
        Ok(request) => {
            let subject = request.extensions().get::<Subject>().unwrap();
            return Seen::Admitted(subject.as_str().to_owned());
        }
        Err(denied) => denied,
    };
    let name = match (kind, response.status()) {
        (DeniedKind::Unauthenticated, StatusCode::UNAUTHORIZED)
        | (DeniedKind::Forbidden, StatusCode::FORBIDDEN) => "www-authenticate",
        (DeniedKind::Unavailable, StatusCode::SERVICE_UNAVAILABLE) => "retry-after",
        other => panic!("{other:?}"),
    };
    let value = response.headers()[name].to_str().unwrap().to_owned();
    Seen::Refused(response.status().as_u16(), value)
}

async fn seen(jwt: &Jwt, token: &str) -> Seen {
    seen_of(jwt, &[&format!("Bearer {token}")]).await
}

/// Waits until every task of the runtime waits too.
async fn settle() {
    Clock::default().sleep(Duration::from_nanos(1)).await;
}
