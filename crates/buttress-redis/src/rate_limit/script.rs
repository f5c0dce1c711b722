//! The bucket of a key in Redis: one key, one script, the time of the server.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Value;

use super::config::Config;
use super::state::Debt;
use crate::error::Error;
use crate::link::Link;
use crate::script::Script;
use crate::value::{array, integer};

/// The generic cell rate algorithm. The key holds the microsecond at which the bucket is full again, as a whole number
/// and a fraction whose denominator is the number of tokens of the rate. Every number stays below 2^53, where the
/// doubles of Lua are exact; `%` of Lua rounds, and `fmod` does not.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local most, tokens, period = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local cost, debt = tonumber(ARGV[4]), tonumber(ARGV[5])
if cost > most then return { 0, -1 } end
local function times(n)
  local rest = math.fmod(n * period, tokens)
  return (n * period - rest) / tokens, rest
end
local function add(us, rest, n)
  local more, part = times(n)
  us, rest = us + more, rest + part
  if rest >= tokens then return us + 1, rest - tokens end
  return us, rest
end
local full, part = times(most)
local function capped(us, rest)
  if us - now > full or (us - now == full and rest > part) then return now + full, part end
  return us, rest
end
local us, rest = now, 0
local found = redis.call('GET', KEYS[1])
if found then
  local a, b, c = string.match(found, '^(%d+) (%d+) (%d+)$')
  a, b, c = tonumber(a), tonumber(b), tonumber(c)
  -- Another rate has another denominator: the fraction becomes a whole microsecond.
  if c ~= tokens and b > 0 then a, b = a + 1, 0 end
  if a >= now then us, rest = capped(a, b) end
end
if debt > 0 then us, rest = capped(add(us, rest, math.min(debt, most))) end
local after, fraction = add(us, rest, cost)
local over = after - now - full
local admitted = over < 0 or (over == 0 and fraction <= part)
if admitted then us, rest = after, fraction end
if admitted or debt > 0 then
  local left = math.ceil((us - now) / 1000) + 1
  redis.call('SET', KEYS[1], string.format('%.0f %.0f %.0f', us, rest, tokens), 'PX', string.format('%.0f', left))
end
if admitted then return { 1, 0 } end
if fraction > part then over = over + 1 end
return { 0, over }",
    )
});

/// The answer of Redis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    Admitted,
    /// The time until the tokens are refilled. `None` if the cost is larger than a bucket.
    Refused(Option<Duration>),
}

pub(super) async fn take(
    link: &Link,
    config: &Config,
    key: &str,
    cost: u32,
    debt: Debt,
) -> Result<Taken, Error> {
    let doing = "taking tokens";
    let micros: u64 = config.refill_period.as_micros().try_into().unwrap_or(u64::MAX);
    let answer = link.run(doing, &TAKE, |cmd| {
        cmd.arg(1).arg(key).arg(config.max_tokens).arg(config.refill_tokens).arg(micros);
        cmd.arg(cost).arg(debt);
    });
    let wrong = || Error::Answer { doing, expected: "two numbers" };
    let answer: [Value; 2] =
        array(answer.await?).and_then(|answer| answer.try_into().ok()).ok_or_else(wrong)?;
    let [admitted, wait] = answer;
    match (integer(&admitted), integer(&wait)) {
        (Some(1), _) => Ok(Taken::Admitted),
        (Some(_), Some(wait)) => {
            Ok(Taken::Refused(u64::try_from(wait).ok().map(Duration::from_micros)))
        }
        _ => Err(wrong()),
    }
}
