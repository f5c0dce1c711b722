//! The scripts of a source. Each checks the lease in the same step that it reads or acknowledges in. The lease alone
//! decides when the entries of a dead member are taken over.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use buttress_durable::consume::Content;
use redis::{Cmd, RedisWrite as _, Value};

use super::entry;
use super::entry_id::EntryId;
use super::fetch::Fetch;
use super::state::{Ask, Claim, Page, Read, Seen, Token};
use super::topic::Topic;
use crate::error::Error;
use crate::link::Link;
use crate::script::Script;
use crate::value::{array, integer, streams, text};

/// The name of the consumer in every group. The lease says which process it is.
pub(super) const CONSUMER: &str = "buttress";
/// How long Redis holds a wait for entries.
const BLOCK: Duration = Duration::from_secs(5);

static TICK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
local answer = { redis.call('ZCARD', KEYS[1]) }
for i = 2, #KEYS do
  local owner = redis.call('GET', KEYS[i])
  if not owner then
    answer[i] = 0
  elseif owner == ARGV[i + 1] then
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
    answer[i] = 1
  else
    answer[i] = 2
  end
end
return answer",
    )
});

static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
for i = 2, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[i] then redis.call('DEL', KEYS[i]) end
end
if ARGV[1] ~= '' then redis.call('ZREM', KEYS[1], ARGV[1]) end
return 1",
    )
});

/// Redis 7 removes the ids of trimmed entries from the pending ones itself, and names them.
static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local group, consumer = ARGV[1], ARGV[2]
local answer = {}
for i = 1, #KEYS / 2 do
  local lease, stream = KEYS[2 * i - 1], KEYS[2 * i]
  local owner, from, count = ARGV[3 * i], ARGV[3 * i + 1], ARGV[3 * i + 2]
  if redis.call('GET', lease) ~= owner then
    answer[i] = 0
  elseif from == '>' then
    local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', stream, '>')
    if read then
      answer[i] = { read[1][2] }
    else
      local at = '0-0'
      for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
        local found = {}
        for k = 1, #flat, 2 do found[flat[k]] = flat[k + 1] end
        if found['name'] == group then at = found['last-delivered-id'] end
      end
      answer[i] = { {}, at }
    end
  else
    local read = redis.call('XAUTOCLAIM', stream, group, consumer, 0, from, 'COUNT', count)
    local entries, counts = read[2], {}
    if #entries > 0 then
      counts = redis.call('XPENDING', stream, group, entries[1][1], entries[#entries][1], #entries)
    end
    answer[i] = { entries, read[1], read[3] or {}, counts }
  end
end
return answer",
    )
});

static ACKNOWLEDGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local group, at = ARGV[1], 2
local answer = {}
for i = 1, #KEYS / 2 do
  local owner, count = ARGV[at], tonumber(ARGV[at + 1])
  if redis.call('GET', KEYS[2 * i - 1]) == owner then
    redis.call('XACK', KEYS[2 * i], group, unpack(ARGV, at + 2, at + 1 + count))
    answer[i] = 1
  else
    answer[i] = 0
  end
  at = at + 2 + count
end
return answer",
    )
});

/// An entry of a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub content: Content,
    pub redeliveries: u32,
}

/// The commands of one member of a group.
#[derive(Debug)]
pub(super) struct Commands {
    pub link: Link,
    /// A wait for entries would hold back every command behind it, so it has a connection to itself.
    pub waits: Link,
    pub fetch: Fetch,
    pub topic: Topic,
    pub group: String,
    /// The name of this member. No other member has it.
    pub me: String,
    pub lease: Duration,
}

impl Commands {
    pub(super) fn owner(&self, claim: Claim) -> String {
        format!("{}:{}", self.me, claim.epoch)
    }

    pub(super) fn lease_of(&self, shard: usize) -> String {
        self.topic.lease(&self.group, shard)
    }

    /// Finds the reason why a command failed: without a stream or group, an operator must declare it again.
    pub(super) fn why(&self, error: Error) -> Error {
        // `XAUTOCLAIM` and `XREADGROUP` say `NOGROUP` for both.
        let missing = |source: &redis::RedisError| source.to_string().contains("NOGROUP");
        match &error {
            Error::Rejected { source, .. } if missing(source) => {
                let (topic, group) = (self.topic.name().to_owned(), self.group.clone());
                Error::MissingGroup { topic, group }
            }
            _ => error,
        }
    }

    pub(super) async fn tick(&self, claims: &[Claim]) -> Result<Seen, Error> {
        let shards = usize::from(self.topic.count());
        let mut owners = vec![String::new(); shards];
        for claim in claims {
            if let Some(owner) = owners.get_mut(claim.shard) {
                *owner = self.owner(*claim);
            }
        }
        let doing = "renewing leases";
        let answer = self.link.run(doing, &TICK, |cmd| {
            cmd.arg(shards + 1).arg(self.topic.members(&self.group));
            cmd.arg((0..shards).map(|shard| self.lease_of(shard)).collect::<Vec<_>>());
            cmd.arg(&self.me).arg(millis(self.lease)).arg(&owners);
        });
        let answer = array(answer.await?).ok_or(Error::Answer { doing, expected: "a list" })?;
        let mut numbers = answer.iter().map(integer);
        let members = numbers.next().flatten().and_then(|members| members.try_into().ok());
        let mut seen = Seen { members: members.unwrap_or(1), ..Seen::default() };
        for (shard, state) in numbers.enumerate() {
            match state {
                Some(0) => drop(seen.free.insert(shard)),
                Some(1) => drop(seen.mine.insert(shard)),
                _ => {}
            }
        }
        Ok(seen)
    }

    /// Takes a lease that no process has. Returns whether it was taken.
    pub(super) async fn take(&self, claim: Claim) -> Result<bool, Error> {
        let mut cmd = redis::cmd("SET");
        cmd.arg(self.lease_of(claim.shard)).arg(self.owner(claim));
        cmd.arg("NX").arg("PX").arg(millis(self.lease));
        Ok(self.link.ask("taking a lease", &cmd).await? != Value::Nil)
    }

    /// Releases leases, and leaves the group too if `leave` is set.
    pub(super) async fn release(&self, claims: &[Claim], leave: bool) -> Result<(), Error> {
        let answer = self.link.run("releasing leases", &RELEASE, |cmd| {
            cmd.arg(claims.len() + 1).arg(self.topic.members(&self.group));
            cmd.arg(claims.iter().map(|claim| self.lease_of(claim.shard)).collect::<Vec<_>>());
            cmd.arg(if leave { &*self.me } else { "" });
            cmd.arg(claims.iter().map(|claim| self.owner(*claim)).collect::<Vec<_>>());
        });
        answer.await.map(drop)
    }

    /// Reads entries. Returns `None` for a shard whose lease has another owner.
    pub(super) async fn read(&self, reads: &[Read]) -> Result<Vec<Option<Page<Entry>>>, Error> {
        if reads.iter().all(|read| read.ask == Ask::More)
            && let Some(pages) = self.fetch(reads).await?
        {
            return Ok(pages.into_iter().map(Some).collect());
        }
        let doing = "reading entries";
        let wrong = || Error::Answer { doing, expected: "a list of entries" };
        let answer = self.link.run(doing, &READ, |cmd| {
            self.keys(cmd, reads.iter().map(|read| read.claim));
            cmd.arg(&self.group).arg(CONSUMER);
            for read in reads {
                cmd.arg(self.owner(read.claim));
                match read.ask {
                    Ask::New | Ask::More => cmd.arg(">"),
                    Ask::Pending(from) => cmd.arg(from.to_string()),
                };
                cmd.arg(read.count);
            }
        });
        let answer = answer.await.map_err(|error| self.why(error))?;
        let pages = array(answer).filter(|pages| pages.len() == reads.len()).ok_or_else(wrong)?;
        let read = |(page, read): (Value, &Read)| match page {
            Value::Int(_) => Ok(None),
            page => page_of(page, read.ask).map(Some).ok_or_else(wrong),
        };
        pages.into_iter().zip(reads).map(read).collect()
    }

    /// Acknowledges entries of several leases. Returns for each lease whether it is still this member's.
    pub(super) async fn acknowledge(
        &self,
        by_lease: &[(Claim, Vec<Token>)],
    ) -> Result<Vec<bool>, Error> {
        let doing = "acknowledging entries";
        let answer = self.link.run(doing, &ACKNOWLEDGE, |cmd| {
            self.keys(cmd, by_lease.iter().map(|(claim, _)| *claim));
            cmd.arg(&self.group);
            for (claim, tokens) in by_lease {
                cmd.arg(self.owner(*claim)).arg(tokens.len());
                for token in tokens {
                    cmd.write_arg_fmt(token.id);
                }
            }
        });
        let answer = array(answer.await?).filter(|answer| answer.len() == by_lease.len());
        let answer = answer.ok_or(Error::Answer { doing, expected: "an answer per shard" })?;
        Ok(answer.iter().map(|owned| integer(owned) == Some(1)).collect())
    }

    fn keys(&self, cmd: &mut Cmd, claims: impl ExactSizeIterator<Item = Claim>) {
        cmd.arg(claims.len() * 2);
        for Claim { shard, .. } in claims {
            cmd.arg(self.lease_of(shard)).arg(self.topic.stream(shard));
        }
    }

    /// Closes the three connections. The next commands open others.
    pub(super) fn reconnect(&self) {
        self.link.close();
        self.waits.close();
        self.fetch.close();
    }

    /// Waits for entries behind these ids. Returns the shards that have some.
    pub(super) async fn wait(&self, after: &[(usize, EntryId)]) -> Result<Vec<usize>, Error> {
        let mut cmd = redis::cmd("XREAD");
        cmd.arg("COUNT").arg(1).arg("BLOCK").arg(millis(BLOCK)).arg("STREAMS");
        cmd.arg(after.iter().map(|(shard, _)| self.topic.stream(*shard)).collect::<Vec<_>>());
        cmd.arg(after.iter().map(|(_, id)| id.to_string()).collect::<Vec<_>>());
        let limit = BLOCK + self.waits.limit();
        let answer = self.waits.ask_within("waiting for entries", limit, &cmd).await?;
        let names: Vec<Value> = match answer {
            Value::Nil => return Ok(Vec::new()),
            answer => {
                streams(answer).unwrap_or_default().into_iter().map(|(name, _)| name).collect()
            }
        };
        let has = |shard: &usize| {
            let stream = self.topic.stream(*shard);
            names.iter().any(|name| text(name) == Some(&stream))
        };
        Ok(after.iter().map(|(shard, _)| *shard).filter(has).collect())
    }
}

fn id_of(value: &Value) -> Option<EntryId> {
    text(value)?.parse().ok()
}

fn page_of(page: Value, ask: Ask) -> Option<Page<Entry>> {
    let mut parts = array(page)?.into_iter();
    let entries = parts.next()?;
    let (at, deleted) = (parts.next(), parts.next());
    let at = at.as_ref().and_then(id_of);
    let Ask::Pending(_) = ask else { return Some(Page { at, ..page_of_new(entries)? }) };
    let mut counts = BTreeMap::new();
    for pending in array(parts.next()?)? {
        // Id, consumer, idle time, number of deliveries.
        let pending = array(pending)?;
        counts.insert(id_of(pending.first()?)?, integer(pending.get(3)?)?);
    }
    let mut page = page_of_new(entries)?;
    for (id, _, entry) in &mut page.entries {
        // The claim itself counts as a delivery.
        let deliveries = counts.get(id).copied().unwrap_or(1);
        entry.redeliveries = deliveries.saturating_sub(1).try_into().unwrap_or(0);
    }
    page.next = at.filter(|next| *next != EntryId::default());
    page.deleted = array(deleted?)?.iter().filter_map(id_of).collect();
    Some(page)
}

/// Reads entries that were never delivered before.
pub(super) fn page_of_new(entries: Value) -> Option<Page<Entry>> {
    let read = |entry: Value| {
        let (id, size, content) = entry::read(entry)?;
        Some((id, size, Entry { content, redeliveries: 0 }))
    };
    let entries = array(entries)?.into_iter().map(read).collect::<Option<_>>()?;
    Some(Page { entries, ..Page::default() })
}

fn millis(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}
