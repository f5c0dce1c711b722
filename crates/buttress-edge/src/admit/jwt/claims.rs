//! The claims of a token, and the rules that judge them.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::why::Why;
use crate::Subject;

/// How far the clocks of issuer and proxy may differ.
pub(super) const LEEWAY: Duration = Duration::from_secs(60);

/// The end of the year 9999. A later date is a mistake, e.g. one in milliseconds.
const LATEST: f64 = 253_402_300_799.0;

/// The claims of a token, each once. Two parsers could choose different ones of two claims with a name.
#[derive(Debug)]
pub(super) struct Claims(Map<String, Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;

        impl<'de> Visitor<'de> for Once {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object without duplicate names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Claims, A::Error> {
                let mut claims = Map::new();
                while let Some((name, value)) = entries.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim occurs twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }

        deserializer.deserialize_map(Once)
    }
}

/// The time in which a token is valid, since 1970, without leeway.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Validity {
    pub from: Option<Duration>,
    pub until: Duration,
}

impl Validity {
    /// A token ends at its expiry (RFC 7519, 4.1.4), plus the leeway.
    pub(super) fn check(self, now: Duration) -> Result<(), Why> {
        if now >= self.until + LEEWAY {
            return Err(Why::Expired);
        }
        if self.from.is_some_and(|from| now + LEEWAY < from) {
            return Err(Why::NotYet);
        }
        Ok(())
    }
}

/// The claims that a token must have.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub audiences: Vec<String>,
    pub any_audience: bool,
    pub issuers: Vec<String>,
    pub any_issuer: bool,
    /// Claims and the value that each must have.
    pub required: Vec<(String, String)>,
    pub scopes: Vec<String>,
}

impl Rules {
    /// Returns the subject of a token, and when it is valid.
    pub(super) fn judge(&self, claims: &[u8], now: Duration) -> Result<(Subject, Validity), Why> {
        let Claims(claims) = serde_json::from_slice(claims).map_err(|_| Why::Claims)?;
        let until = date(claims.get("exp"))?.ok_or(Why::NoExpiry)?;
        let validity = Validity { from: date(claims.get("nbf"))?, until };
        validity.check(now)?;
        let one_of = |name: &str, accepted: &[String]| {
            accepted.iter().any(|value| has(claims.get(name), value))
        };
        // The issuer is a text, never a list.
        let issuer = claims.get("iss").filter(|issuer| issuer.is_string());
        if !self.any_issuer && !self.issuers.iter().any(|accepted| has(issuer, accepted)) {
            return Err(Why::Issuer);
        }
        if !self.any_audience && !one_of("aud", &self.audiences) {
            return Err(Why::Audience);
        }
        let subject = match claims.get("sub") {
            None | Some(Value::Null) => return Err(Why::NoSubject),
            Some(Value::String(subject)) => subject_of(subject)?,
            Some(_) => return Err(Why::Subject),
        };
        if !self.required.iter().all(|(name, value)| has(claims.get(name), value)) {
            return Err(Why::Claim);
        }
        let granted =
            |scope: &String| ["scope", "scp"].iter().any(|name| grants(claims.get(*name), scope));
        if !self.scopes.iter().all(granted) {
            return Err(Why::Scope);
        }
        Ok((subject, validity))
    }
}

/// Returns the subject of a token: at most 255 ASCII characters (OpenID Connect Core, 2).
fn subject_of(text: &str) -> Result<Subject, Why> {
    if text.len() > 255 || !text.is_ascii() {
        return Err(Why::Subject);
    }
    Subject::new(text).map_err(|_| Why::Subject)
}

/// Whether a claim is this text, or a list with it.
fn has(claim: Option<&Value>, wanted: &str) -> bool {
    match claim {
        Some(Value::String(text)) => text == wanted,
        Some(Value::Array(list)) => list.iter().any(|value| value.as_str() == Some(wanted)),
        _ => false,
    }
}

/// Whether a claim has this scope: a text with spaces between the scopes (RFC 8693, 4.2), or a list.
fn grants(claim: Option<&Value>, scope: &str) -> bool {
    match claim {
        Some(Value::String(text)) => text.split(' ').any(|granted| granted == scope),
        list => has(list, scope),
    }
}

/// Reads seconds since 1970 (RFC 7519, 2), which may have a fraction.
fn date(claim: Option<&Value>) -> Result<Option<Duration>, Why> {
    let Some(claim) = claim else { return Ok(None) };
    let seconds = claim.as_f64().filter(|seconds| (0.0..=LATEST).contains(seconds));
    let date = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    date.map(Some).ok_or(Why::Date)
}
