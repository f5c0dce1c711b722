//! From a token to its subject: cache, keys, signature, claims.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::Jwt;
use super::cache::{self, Cache};
use super::keys::{Found, KeySet};
use super::server::{Answer, KeyServer, Waiting};
use super::token::{LONGEST, Token};
use super::why::Why;
use crate::Subject;

/// Where the keys come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Fixed(Arc<KeySet>),
    Served { server: Arc<KeyServer>, is_secure: bool },
}

/// The decision on a token.
pub(super) enum Judged {
    Admitted(Subject),
    Denied(Why),
    /// The token can be judged after a fetch.
    Wait(Waiting),
    /// The keys are unknown, for at least this time.
    Unavailable(Duration),
}

impl Judged {
    /// Returns the decision on a token whose key is not there. The key server answers with keys only to `ask`.
    fn without_key(answer: Answer) -> Self {
        match answer {
            Answer::Wait(waiting) => Self::Wait(waiting),
            Answer::Unavailable(wait) => Self::Unavailable(wait),
            Answer::Unknown | Answer::Keys(_) => Self::Denied(Why::UnknownKey),
        }
    }
}

impl Jwt {
    /// Judges a token. One that has waited before does not wait again.
    pub(super) fn judge(&self, token: &str, has_waited: bool) -> Judged {
        let now = self.clock.unix();
        let keys = match &self.source {
            Source::Fixed(keys) => Arc::clone(keys),
            Source::Served { server, .. } => match server.ask(&self.clock, has_waited) {
                Answer::Keys(keys) => keys,
                other => return Judged::without_key(other),
            },
        };
        if token.len() > LONGEST {
            return Judged::Denied(Why::TooLong);
        }
        let digest = cache::digest(token);
        if let Some(subject) = self.cache().get(&digest, &keys, now) {
            return Judged::Admitted(subject);
        }
        let token = match Token::parse(token) {
            Ok(token) => token,
            Err(why) => return Judged::Denied(why),
        };
        let key = match (keys.find(token.kid.as_deref(), token.algorithm), &self.source) {
            (Found::Key(key), _) => key,
            (Found::Unknown, Source::Served { server, .. }) => {
                return Judged::without_key(server.unknown_key(&self.clock, has_waited));
            }
            (Found::Unknown, Source::Fixed(_)) => return Judged::Denied(Why::UnknownKey),
            (Found::WrongAlgorithm, _) => return Judged::Denied(Why::Algorithm),
            (Found::Ambiguous, _) => return Judged::Denied(Why::Ambiguous),
        };
        if !key.verifies(token.message, &token.signature) {
            return Judged::Denied(Why::Signature);
        }
        match token.claims().and_then(|claims| self.rules.judge(&claims, now)) {
            Ok((subject, validity)) => {
                self.cache().put(digest, (subject.clone(), validity), key, &keys);
                Judged::Admitted(subject)
            }
            Err(why) => Judged::Denied(why),
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
