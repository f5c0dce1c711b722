//! [`ApiKeys`]: secrets that callers send in a header field.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use buttress::{Clock, InvalidConfig};
use http::{HeaderName, HeaderValue, Request};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::credentials::{Given, only};
use crate::{Admission, Admit, Body, Denied, Subject};

/// The lengths of a key in bytes. A shorter one could be found by trying; a longer one is a mistake.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=1024;

/// A key of a caller. It is kept as SHA-256.
///
/// Debug output omits it.
#[derive(Clone)]
#[must_use]
pub struct ApiKey {
    digest: [u8; 32],
    subject: Subject,
    until: Option<Duration>,
}

impl ApiKey {
    /// Creates a key for a subject. A subject can have several keys.
    ///
    /// The key must be random: SHA-256 is fast, and does not protect a word or a date.
    ///
    /// # Errors
    /// Returns an error if the key has less than 16 or more than 1024 bytes, or a byte that is not visible ASCII, or if
    /// the subject is not a [`Subject`].
    pub fn new(key: &str, subject: &str) -> Result<Self, InvalidConfig> {
        if !LENGTHS.contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let value = format!("a text of {} bytes", key.len());
            return Err(InvalidConfig::new("api-key", value, "16 to 1024 visible ASCII bytes"));
        }
        Self::of_digest(Sha256::digest(key).into(), subject)
    }

    /// Creates a key from its SHA-256 in hexadecimal form, as `sha256sum` prints it. So the configuration holds no
    /// secret.
    ///
    /// # Errors
    /// Returns an error if `digest` does not have 64 hexadecimal digits, or the subject is not a [`Subject`].
    pub fn sha256(digest: &str, subject: &str) -> Result<Self, InvalidConfig> {
        let refused = || {
            let value = format!("a text of {} bytes", digest.len());
            InvalidConfig::new("api-key", value, "64 hexadecimal digits")
        };
        let mut bytes = [0; 32];
        // A sign would be a number too.
        if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refused());
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits = digest.get(2 * at..2 * at + 2).ok_or_else(refused)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| refused())?;
        }
        Self::of_digest(bytes, subject)
    }

    fn of_digest(digest: [u8; 32], subject: &str) -> Result<Self, InvalidConfig> {
        let subject = Subject::new(subject).map_err(|_| {
            let value = format!("a text of {} bytes", subject.len());
            let bound = "1 to 256 bytes without control characters, and without spaces at the ends";
            InvalidConfig::new("api-key-subject", value, bound)
        })?;
        Ok(Self { digest, subject, until: None })
    }

    /// Sets the end of the key: it is refused from then on. Default: no end.
    pub fn until(mut self, end: SystemTime) -> Self {
        // An end before 1970 has passed.
        self.until = Some(end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        self
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("until", &self.until).finish_non_exhaustive()
    }
}

/// An admission of requests that have a known key in a header field. The key's subject is the subject of the request.
///
/// A missing, wrong or ended key, and a field that occurs twice, get the same answer: 401. A key in the query is not
/// read, because servers and browsers log queries. The key is compared in constant time.
///
/// Clones share the keys. [`handle`](Self::handle) replaces them while the proxy runs.
///
/// ```
/// use buttress_edge::{ApiKey, ApiKeys, Route, Upstream};
///
/// // What sha256sum prints for the text `partner-key-0123456789`.
/// let digest = "e3a9ab3072756cb2b404980ba837bec9a0931d8b35ae3b406e5f0246d4cf7033";
/// let keys = ApiKeys::new("x-api-key", [ApiKey::sha256(digest, "partner-7")?])?;
/// let handle = keys.handle();
/// let orders = Route::new("orders")
///     .to(Upstream::fixed(["http://10.0.0.1:8001"])?)
///     .admit(keys);
/// // Later: revokes the key.
/// handle.replace([])?;
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ApiKeys {
    header: HeaderName,
    handle: ApiKeysHandle,
    clock: Clock,
}

impl ApiKeys {
    /// Creates an admission by keys in the field `header`, e.g. `x-api-key`.
    ///
    /// The proxy removes the field before it forwards a request, unless a route says
    /// [`forward_credentials`](crate::Route::forward_credentials).
    ///
    /// # Errors
    /// Returns an error if `header` is not a name of a field, or two keys are equal.
    pub fn new(
        header: &str,
        keys: impl IntoIterator<Item = ApiKey>,
    ) -> Result<Self, InvalidConfig> {
        let header = header.parse().map_err(|_| {
            InvalidConfig::new(
                "api-key-header",
                format!("{header:?}"),
                "the name of a header field",
            )
        })?;
        let handle = ApiKeysHandle { table: Arc::new(Mutex::new(Arc::new(Table::new(keys)?))) };
        Ok(Self { header, handle, clock: Clock::default() })
    }

    /// Sets the clock of the ends of keys. Default: tokio's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Returns the handle that replaces the keys.
    #[must_use]
    pub fn handle(&self) -> ApiKeysHandle {
        self.handle.clone()
    }
}

impl Admit for ApiKeys {
    fn admit(&self, mut request: Request<Body>) -> Admission {
        let table = Arc::clone(&self.handle.lock());
        let subject = match only(request.headers(), &self.header) {
            Given::Value(key) => table.find(key, &self.clock),
            Given::Missing | Given::Malformed => None,
        };
        let Some(subject) = subject else {
            tracing::debug!("an API key is missing or unknown");
            let challenge = HeaderValue::from_static("ApiKey");
            return Admission::Now(Err(Denied::unauthenticated(challenge)));
        };
        request.extensions_mut().insert(subject);
        Admission::Now(Ok(request))
    }

    fn credentials(&self) -> Vec<HeaderName> {
        vec![self.header.clone()]
    }
}

/// A handle that replaces the keys of [`ApiKeys`] while the proxy runs. Cheap to clone.
#[derive(Clone)]
pub struct ApiKeysHandle {
    table: Arc<Mutex<Arc<Table>>>,
}

impl ApiKeysHandle {
    /// Replaces all keys. The next request is judged by the new ones.
    ///
    /// # Errors
    /// Returns an error if two keys are equal. The keys are then unchanged.
    pub fn replace(&self, keys: impl IntoIterator<Item = ApiKey>) -> Result<(), InvalidConfig> {
        let table = Arc::new(Table::new(keys)?);
        *self.lock() = table;
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Table>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ApiKeysHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeysHandle").finish_non_exhaustive()
    }
}

/// The keys, by a hash of their SHA-256 with a secret of the table. So the time of the search reveals no key to a
/// caller: a caller cannot choose keys that meet the same place.
#[derive(Default)]
struct Table {
    secret: RandomState,
    keys: HashMap<u64, Vec<ApiKey>>,
}

impl Table {
    fn new(keys: impl IntoIterator<Item = ApiKey>) -> Result<Self, InvalidConfig> {
        let mut table = Self::default();
        for key in keys {
            if table.at(&key.digest).is_some() {
                return Err(InvalidConfig::new("api-keys", "a key that is there twice", "unique"));
            }
            table.keys.entry(table.secret.hash_one(key.digest)).or_default().push(key);
        }
        Ok(table)
    }

    /// Returns the subject of a key that is valid now. A key without an end reads no clock.
    fn find(&self, key: &str, clock: &Clock) -> Option<Subject> {
        let found = self.at(&Sha256::digest(key).into())?;
        found.until.is_none_or(|until| clock.unix() < until).then(|| found.subject.clone())
    }

    fn at(&self, digest: &[u8; 32]) -> Option<&ApiKey> {
        let place = self.keys.get(&self.secret.hash_one(digest))?;
        place.iter().find(|key| key.digest.ct_eq(digest).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeniedKind;

    const KEY: &str = "partner-key-0123456789";

    /// Sends a request with these values of the field `x-api-key`.
    fn admit(keys: &ApiKeys, fields: &[&[u8]]) -> Result<Subject, Box<Denied>> {
        let mut request = Request::get("/orders?x-api-key=partner-key-0123456789");
        for field in fields {
            request = request.header("X-Api-Key", *field);
        }
        let Admission::Now(decision) = keys.admit(request.body(Body::empty()).unwrap()) else {
            panic!("a key needs no time");
        };
        let subject = decision.map(|request| request.extensions().get::<Subject>().cloned());
        subject.map(Option::unwrap).map_err(Box::new)
    }

    fn keys(keys: impl IntoIterator<Item = ApiKey>) -> ApiKeys {
        ApiKeys::new("x-api-key", keys).unwrap()
    }

    fn at(seconds: u64) -> Clock {
        buttress::VirtualClock::starting_at(Duration::from_secs(seconds)).clock()
    }

    #[test]
    fn edge_2_38_several_keys_are_valid_each_until_its_end() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        // What sha256sum prints for the text `partner-key-0123456789`, without a line break.
        let digest =
            sha2::Sha256::digest(KEY).iter().map(|byte| format!("{byte:02X}")).collect::<String>();
        let given = [
            ApiKey::sha256(&digest, "partner-7").unwrap(),
            ApiKey::new("old-key-9876543210", "partner-7").unwrap().until(end),
            ApiKey::new("other-key-0123456789", "partner-8").unwrap(),
        ];
        let keys = keys(given);
        for (now, key, subject) in [
            (999, KEY, Some("partner-7")),
            (999, "old-key-9876543210", Some("partner-7")),
            (1_000, "old-key-9876543210", None),
            (1_000, KEY, Some("partner-7")),
            (1_000, "other-key-0123456789", Some("partner-8")),
        ] {
            let found = admit(&keys.clone().clock(at(now)), &[key.as_bytes()]).ok();
            assert_eq!(found.as_ref().map(Subject::as_str), subject, "{key} at {now}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn edge_2_38_wrong_missing_and_ended_keys_get_the_same_401() {
        let ended = ApiKey::new("ended-key-0123456789", "a").unwrap().until(SystemTime::UNIX_EPOCH);
        let keys = keys([ApiKey::new(KEY, "partner-7").unwrap(), ended]);
        let cases: [&[&[u8]]; 8] = [
            // The key in the query of the request is not read.
            &[],
            &[b""],
            &[b"partner-key-0123456788"],
            &[b"PARTNER-KEY-0123456789"],
            &[b"partner-key-0123456789 "],
            &[b"ended-key-0123456789"],
            &[b"partner-key-0123456789\xff"],
            &[KEY.as_bytes(), KEY.as_bytes()],
        ];
        let mut answers = Vec::new();
        for fields in cases {
            let denied = admit(&keys, fields).unwrap_err();
            assert_eq!(denied.kind, DeniedKind::Unauthenticated, "{fields:?}");
            let (head, body) = denied.response.into_parts();
            let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
            answers.push((head.status, head.headers, body));
        }
        assert_eq!(answers[0].1["www-authenticate"], "ApiKey");
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }

    #[test]
    fn edge_2_38_a_live_reload_revokes_keys_in_all_clones_all_or_nothing() {
        let first = keys([ApiKey::new(KEY, "partner-7").unwrap()]);
        let clone = first.clone();
        let new = ApiKey::new("new-key-0123456789", "partner-7").unwrap();
        let error = first.handle().replace([new.clone(), new.clone()]).unwrap_err();
        assert_eq!(error.to_string(), "api-keys: a key that is there twice is not unique");
        assert!(admit(&clone, &[KEY.as_bytes()]).is_ok());
        first.handle().replace([new]).unwrap();
        assert!(admit(&clone, &[KEY.as_bytes()]).is_err());
        assert!(admit(&clone, &[b"new-key-0123456789"]).is_ok());
    }

    #[test]
    fn edge_2_38_bad_keys_are_refused_without_their_text() {
        let long = "x".repeat(1025);
        for key in [
            "",
            "short-of-16-byte",
            "with a space in it",
            "with-ümlaut-in-it",
            "line\nbreak-in-it-",
            &long,
        ] {
            if key.len() == 16 {
                assert!(ApiKey::new(key, "a").is_ok());
                continue;
            }
            let error = ApiKey::new(key, "a").unwrap_err();
            let value = format!("a text of {} bytes", key.len());
            assert_eq!((error.field(), error.value()), ("api-key", &*value));
        }
        let digit = "0".repeat(63);
        for digest in
            [String::new(), format!("{digit}g"), format!("{digit}00"), format!("+{digit}")]
        {
            assert_eq!(ApiKey::sha256(&digest, "a").unwrap_err().field(), "api-key", "{digest}");
        }
        for subject in ["", "a\r\nx-admin: 1", " a"] {
            assert_eq!(ApiKey::new(KEY, subject).unwrap_err().field(), "api-key-subject");
        }
        assert_eq!(ApiKeys::new("x api key", []).unwrap_err().field(), "api-key-header");
        let key = ApiKey::new(KEY, "partner-7").unwrap();
        let text = format!("{key:?} {:?}", keys([key.clone()]));
        assert!(!text.contains("partner") && !text.contains("digest"), "{text}");
    }
}
