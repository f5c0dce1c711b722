//! [`IdempotencyStore`]: claims and results by key.

use std::fmt;
use std::time::Duration;

use buttress::idempotency::{Claimed, Fingerprint, Key, KeyClaim, Store};
use buttress::{Answer, Clock, StoreError};
use redis::Value;

use super::script::{ENTRY, SWEEP};
use crate::address::Redis;
use crate::error::Error;
use crate::link::Link;
use crate::streams::check_name;
use crate::value::{array, bytes, integer, text};

/// The entries are spread over this many slots of a cluster.
const PARTITIONS: u16 = 16;

/// A store of idempotency keys in Redis. Cheap to clone. The [module](super) says when Redis loses entries.
#[derive(Clone)]
pub struct IdempotencyStore {
    link: Link,
    name: String,
    /// The clock of a test, in place of the server's.
    clock: Option<Clock>,
}

impl Redis {
    /// Creates a store of idempotency keys. `name` is a part of every key in Redis: stores with the same name share
    /// their claims. Opens no connection yet.
    ///
    /// # Errors
    /// Returns [`Error::Name`] if the name is empty, longer than 200 bytes, or has a brace or a control character.
    pub fn idempotency(&self, name: &str) -> Result<IdempotencyStore, Error> {
        check_name("name", name)?;
        Ok(IdempotencyStore { link: self.link(), name: name.to_owned(), clock: None })
    }
}

/// The operation on an entry.
#[derive(Clone, Copy, Default)]
struct Ask<'a> {
    operation: &'static str,
    span: Duration,
    value: &'a [u8],
}

impl IdempotencyStore {
    /// The largest result in bytes: 16 MiB. Redis holds results in memory.
    pub const LARGEST_RESULT: usize = 16 << 20;

    /// Sets the clock of leases and lifetimes, for tests. Default: the clock of the Redis server, which all processes
    /// share.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    fn now(&self) -> String {
        let micros = |clock: &Clock| clock.unix().as_micros().to_string();
        self.clock.as_ref().map(micros).unwrap_or_default()
    }

    /// Returns the keys of an entry and of its index.
    fn keys(&self, key: &Key) -> [String; 2] {
        let partition = Fingerprint::of(key.as_str().as_bytes()).get() % u128::from(PARTITIONS);
        let slot = format!("{{buttress:keys:{}:{partition}}}", self.name);
        [format!("{slot}:of:{}", key.as_str()), format!("{slot}:ends")]
    }

    /// Runs the script of an entry. Returns the word of its answer, and the value that comes with it.
    async fn ask(
        &self,
        doing: &'static str,
        claim: KeyClaim<'_>,
        ask: Ask<'_>,
    ) -> Answer<(String, Option<Value>)> {
        let print = claim.fingerprint.map(|print| format!("{:032x}", print.get()));
        let (now, print) = (self.now(), print.unwrap_or_default());
        let micros = u64::try_from(ask.span.as_micros()).unwrap_or(u64::MAX);
        let answer = self.link.run(doing, &ENTRY, |cmd| {
            cmd.arg(2).arg(&self.keys(claim.key));
            cmd.arg(ask.operation).arg(&now).arg(claim.id.to_string()).arg(micros).arg(&print);
            cmd.arg(ask.value);
        });
        let mut answer = array(answer.await?).unwrap_or_default().into_iter();
        match answer.next().as_ref().and_then(text) {
            Some("fenced") => {
                let key = claim.key;
                Err(StoreError::fenced(format!("{doing}: the claim does not hold key `{key}`")))
            }
            Some(word) => Ok((word.to_owned(), answer.next())),
            None => Err(Error::Answer { doing, expected: "a word" }.into()),
        }
    }

    /// Runs an operation that answers nothing.
    async fn tell(&self, doing: &'static str, claim: KeyClaim<'_>, ask: Ask<'_>) -> Answer<()> {
        self.ask(doing, claim, ask).await.map(drop)
    }
}

impl Store<Vec<u8>> for IdempotencyStore {
    async fn claim(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<Claimed<Vec<u8>>> {
        let doing = "claiming a key";
        let ask = Ask { operation: "claim", span: lease, ..Ask::default() };
        let (word, rest) = self.ask(doing, claim, ask).await?;
        let wrong = || Error::Answer { doing, expected: "the state of a key" };
        Ok(match &*word {
            "owned" => Claimed::Owned,
            "mismatch" => Claimed::Mismatch,
            "not kept" => Claimed::NotKept,
            "done" => Claimed::Done(rest.and_then(bytes).ok_or_else(wrong)?),
            "in flight" => {
                let left = rest.as_ref().and_then(integer).and_then(|left| left.try_into().ok());
                Claimed::InFlight { lease_left: Duration::from_micros(left.ok_or_else(wrong)?) }
            }
            _ => return Err(wrong().into()),
        })
    }

    async fn renew_claim(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<()> {
        let ask = Ask { operation: "renew", span: lease, ..Ask::default() };
        self.tell("renewing a claim", claim, ask).await
    }

    async fn complete(&self, claim: KeyClaim<'_>, value: Vec<u8>, life: Duration) -> Answer<()> {
        if value.len() > Self::LARGEST_RESULT {
            let (length, most) = (value.len(), Self::LARGEST_RESULT);
            let text = format!(
                "completing a claim: a result of {length} bytes, at most {most} are allowed"
            );
            return Err(StoreError::invalid(text));
        }
        let ask = Ask { operation: "done", span: life, value: &value };
        self.tell("completing a claim", claim, ask).await
    }

    async fn complete_without_result(&self, claim: KeyClaim<'_>, life: Duration) -> Answer<()> {
        let ask = Ask { operation: "not kept", span: life, ..Ask::default() };
        self.tell("completing a claim", claim, ask).await
    }

    async fn release_claim(&self, claim: KeyClaim<'_>) -> Answer<()> {
        let ask = Ask { operation: "release", ..Ask::default() };
        self.tell("releasing a claim", claim, ask).await
    }

    async fn outcome(&self, claim: KeyClaim<'_>) -> Answer<Option<Vec<u8>>> {
        let ask = Ask { operation: "outcome", ..Ask::default() };
        let (_, value) = self.ask("reading a result", claim, ask).await?;
        Ok(value.and_then(bytes))
    }

    async fn sweep_expired(&self, limit: usize) -> Answer<usize> {
        let (doing, mut swept) = ("sweeping results", 0);
        for partition in 0..PARTITIONS {
            if swept >= limit {
                break;
            }
            let index = format!("{{buttress:keys:{}:{partition}}}:ends", self.name);
            let (now, most) = (self.now(), limit - swept);
            let answer = self.link.run(doing, &SWEEP, |cmd| {
                cmd.arg(1).arg(&index).arg(&now).arg(most);
            });
            let found = integer(&answer.await?).and_then(|number| usize::try_from(number).ok());
            swept += found.ok_or(Error::Answer { doing, expected: "a number" })?;
        }
        Ok(swept)
    }
}

impl fmt::Debug for IdempotencyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyStore").field("name", &self.name).finish_non_exhaustive()
    }
}
