//! The section of an admission, and the admission that it describes.

use buttress::InvalidConfig;
use serde_json::Value;

use super::{Secret, effect};
use crate::Config;
use crate::admission::Admits;

/// The keys of an admission. One of them is given.
#[derive(serde::Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table with the key `jwt` or `api-keys`"
)]
pub(super) struct Section {
    jwt: Option<Tokens>,
    api_keys: Option<Keys>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(not(feature = "jwt"), expect(dead_code, reason = "the feature that reads it is off"))]
struct Tokens {
    hs256: Option<Secret>,
    rs256_pem: Option<Secret>,
    jwks: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    issuers: Vec<String>,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    any_issuer: bool,
    #[serde(default)]
    any_audience: bool,
    #[serde(default)]
    require: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    scopes: Vec<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(
    not(feature = "api-keys"),
    expect(dead_code, reason = "the feature that reads it is off")
)]
struct Keys {
    header: String,
    keys: Vec<OneKey>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(
    not(feature = "api-keys"),
    expect(dead_code, reason = "the feature that reads it is off")
)]
struct OneKey {
    subject: String,
    key: Option<Secret>,
    sha256: Option<String>,
    until: Option<u64>,
}

/// An admission, and everything that it was built of.
#[derive(Clone, Debug)]
pub(super) struct Built {
    #[cfg(any(feature = "jwt", feature = "api-keys"))]
    section: Value,
    #[cfg(feature = "jwt")]
    secrets: Secrets,
    pub admit: Admits,
    #[cfg(feature = "api-keys")]
    keys: Option<crate::ApiKeysHandle>,
}

/// The admission of a section, and what follows once the routes of the document are applied.
pub(super) struct Next {
    pub built: Built,
    /// The keys that replace the keys of a running admission.
    #[cfg(feature = "api-keys")]
    replaces: Option<Vec<crate::ApiKey>>,
}

impl Next {
    /// Makes the keys of the document the keys of the admission.
    pub(super) fn apply(self) -> Result<Built, InvalidConfig> {
        #[cfg(feature = "api-keys")]
        if let (Some(handle), Some(keys)) = (&self.built.keys, self.replaces) {
            handle.replace(keys)?;
        }
        Ok(self.built)
    }
}

/// The credentials that an admission was built of. Debug output omits them.
#[cfg(any(feature = "jwt", feature = "api-keys"))]
#[derive(Clone, Default, PartialEq, Eq)]
struct Secrets(Vec<Vec<u8>>);

#[cfg(any(feature = "jwt", feature = "api-keys"))]
impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Secrets").field(&self.0.len()).finish()
    }
}

#[cfg(any(feature = "jwt", feature = "api-keys"))]
impl Secrets {
    /// Reads a credential, and remembers it, so that the next document finds out whether it has changed.
    fn read(&mut self, field: &str, secret: &Secret) -> Result<Vec<u8>, InvalidConfig> {
        let read = secret.read().map_err(|error| {
            InvalidConfig::new(field.to_owned(), error, "a readable credential")
        })?;
        self.0.push(read.clone());
        Ok(read)
    }
}

/// Builds the admission of a section, or takes it from `before` if nothing has changed.
pub(super) fn build(
    section: &Value,
    before: Option<&Built>,
    config: &Config,
) -> Result<Next, InvalidConfig> {
    let read: Section = serde_path_to_error::deserialize(section).map_err(|error| {
        let bound = "an admission with the key `jwt` or `api-keys`";
        InvalidConfig::new(error.path().to_string(), error.inner(), bound)
    })?;
    effect::check_admission(section)?;
    match (read.jwt, read.api_keys) {
        (Some(tokens), None) => tokens.build(section, before, config),
        (None, Some(keys)) => keys.build(section, before, config),
        (given, _) => {
            let value = if given.is_some() { "`jwt` and `api-keys`" } else { "nothing" };
            Err(InvalidConfig::new("", value, "either `jwt` or `api-keys`"))
        }
    }
}

#[cfg(any(feature = "jwt", feature = "api-keys"))]
#[cfg_attr(not(feature = "jwt"), expect(unused_variables, reason = "keys are not compared"))]
fn next(section: &Value, secrets: Secrets, admit: impl crate::Admit + 'static) -> Next {
    Next {
        built: Built {
            section: section.clone(),
            #[cfg(feature = "jwt")]
            secrets,
            admit: Admits(std::sync::Arc::new(admit)),
            #[cfg(feature = "api-keys")]
            keys: None,
        },
        #[cfg(feature = "api-keys")]
        replaces: None,
    }
}

#[cfg(not(all(feature = "jwt", feature = "api-keys")))]
fn without(feature: &str) -> Result<Next, InvalidConfig> {
    let bound = format!("possible: buttress-edge is built without its feature `{feature}`");
    Err(InvalidConfig::new(feature.to_owned(), "a table", bound))
}

#[cfg(not(feature = "jwt"))]
impl Tokens {
    fn build(self, _: &Value, _: Option<&Built>, _: &Config) -> Result<Next, InvalidConfig> {
        without("jwt")
    }
}

#[cfg(not(feature = "api-keys"))]
impl Keys {
    fn build(self, _: &Value, _: Option<&Built>, _: &Config) -> Result<Next, InvalidConfig> {
        without("api-keys")
    }
}

/// Returns the error of a value within the section, with its whole path.
#[cfg(any(feature = "jwt", feature = "api-keys"))]
fn within(path: &str) -> impl Fn(InvalidConfig) -> InvalidConfig + '_ {
    move |error| InvalidConfig::new(path.to_owned(), error.value(), error.bound())
}

#[cfg(feature = "jwt")]
impl Tokens {
    fn build(
        self,
        section: &Value,
        before: Option<&Built>,
        config: &Config,
    ) -> Result<Next, InvalidConfig> {
        use crate::{Admit, Jwt};

        let unstated = [
            ("issuers", self.issuers.is_empty() && !self.any_issuer, "any-issuer"),
            ("audiences", self.audiences.is_empty() && !self.any_audience, "any-audience"),
        ];
        if let Some((key, _, any)) = unstated.iter().find(|(_, is_unstated, _)| *is_unstated) {
            let bound = format!("stated: set either `{key}` or `{any}`");
            return Err(InvalidConfig::new(format!("jwt.{key}"), "nothing", bound));
        }
        let mut secrets = Secrets::default();
        let mut jwt = match (&self.hs256, &self.rs256_pem, &self.jwks) {
            (Some(secret), None, None) => {
                let path = "jwt.hs256";
                Jwt::hs256(secrets.read(path, secret)?).map_err(within(path))?
            }
            (None, Some(pem), None) => {
                let path = "jwt.rs256-pem";
                let pem = String::from_utf8(secrets.read(path, pem)?).map_err(|_| {
                    InvalidConfig::new(path, "bytes that are not text", "a public key in PEM")
                })?;
                Jwt::rs256_pem(&pem).map_err(within(path))?
            }
            (None, None, Some(url)) => Jwt::jwks(url).map_err(within("jwt.jwks"))?,
            _ => {
                let bound = "exactly one of `hs256`, `rs256-pem` and `jwks`";
                return Err(InvalidConfig::new("jwt", "none or several keys", bound));
            }
        };
        // The keys of a key server, and the tokens that were verified, stay with an unchanged section.
        if let Some(before) =
            before.filter(|before| before.section == *section && before.secrets == secrets)
        {
            return Ok(Next {
                built: before.clone(),
                #[cfg(feature = "api-keys")]
                replaces: None,
            });
        }
        if self.insecure {
            jwt = jwt.insecure();
        }
        if self.any_issuer {
            jwt = jwt.any_issuer();
        }
        if self.any_audience {
            jwt = jwt.any_audience();
        }
        jwt = self.issuers.into_iter().fold(jwt, Jwt::issuer);
        jwt = self.audiences.into_iter().fold(jwt, Jwt::audience);
        jwt = self.scopes.into_iter().fold(jwt, Jwt::require_scope);
        jwt = self.require.into_iter().fold(jwt, |jwt, (claim, value)| jwt.require(claim, value));
        let jwt = jwt.clock(config.clock.clone());
        jwt.check().map_err(|error| match error.field() {
            "issuer" => within("jwt.issuers")(error),
            "audience" => within("jwt.audiences")(error),
            "require-scope" => within("jwt.scopes")(error),
            "jwks" => {
                InvalidConfig::new("jwt.jwks", error.value(), "https, unless `insecure` is true")
            }
            field => within(&format!("jwt.{field}"))(error),
        })?;
        Ok(next(section, secrets, jwt))
    }
}

#[cfg(feature = "api-keys")]
impl Keys {
    fn build(
        self,
        section: &Value,
        before: Option<&Built>,
        config: &Config,
    ) -> Result<Next, InvalidConfig> {
        use crate::ApiKeys;

        let mut secrets = Secrets::default();
        let mut keys = Vec::new();
        for (place, key) in self.keys.into_iter().enumerate() {
            keys.push(key.build(&format!("api-keys.keys[{place}]"), &mut secrets)?);
        }
        // Checks them, also if they replace the keys of a running admission.
        let admit = ApiKeys::new(&self.header, keys.clone())
            .map_err(|error| match error.field() {
                "api-key-header" => within("api-keys.header")(error),
                _ => within("api-keys.keys")(error),
            })?
            .clock(config.clock.clone());
        let handle = admit.handle();
        let header = |section: &Value| section.pointer("/api-keys/header").cloned();
        let same = before.filter(|before| header(&before.section) == header(section));
        match same.and_then(|before| Some((before, before.keys.clone()?))) {
            // Other keys for the admission that routes have: the routes keep their state.
            Some((before, running)) => Ok(Next {
                built: Built {
                    section: section.clone(),
                    #[cfg(feature = "jwt")]
                    secrets,
                    admit: before.admit.clone(),
                    keys: Some(running),
                },
                replaces: Some(keys),
            }),
            None => {
                let mut next = next(section, secrets, admit);
                next.built.keys = Some(handle);
                Ok(next)
            }
        }
    }
}

#[cfg(feature = "api-keys")]
impl OneKey {
    fn build(self, path: &str, secrets: &mut Secrets) -> Result<crate::ApiKey, InvalidConfig> {
        use std::time::{Duration, SystemTime};

        use crate::ApiKey;

        let (of_key, of_digest) = (format!("{path}.key"), format!("{path}.sha256"));
        let (key, of_given) = match (&self.key, &self.sha256) {
            (Some(key), None) => {
                let text = String::from_utf8(secrets.read(&of_key, key)?)
                    .map_err(|_| InvalidConfig::new(of_key.as_str(), "a key", "visible ASCII"))?;
                (ApiKey::new(&text, &self.subject), of_key)
            }
            (None, Some(digest)) => (ApiKey::sha256(digest, &self.subject), of_digest),
            _ => {
                let bound = "given by either `key` or `sha256`";
                return Err(InvalidConfig::new(path.to_owned(), "a key", bound));
            }
        };
        let key = key.map_err(|error| match error.field() {
            "api-key-subject" => within(&format!("{path}.subject"))(error),
            _ => within(&of_given)(error),
        })?;
        let Some(until) = self.until else { return Ok(key) };
        let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(until));
        let end = end.ok_or_else(|| {
            let bound = "a second since 1970 that a date can hold";
            InvalidConfig::new(format!("{path}.until"), until, bound)
        })?;
        Ok(key.until(end))
    }
}
