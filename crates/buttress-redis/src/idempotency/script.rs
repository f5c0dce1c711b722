//! The scripts of the store. An entry is a hash; an index by end of each partition serves the sweep.

use std::sync::LazyLock;

use crate::script::Script;

/// Decides about one entry. `ARGV` is the operation, the time or nothing, the claim, a span, a fingerprint or nothing,
/// and a result. An entry stays for an hour after its end, because the owner of an ended lease may still renew it.
pub(super) static ENTRY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local operation, claim, span, print = ARGV[1], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local entry = redis.call('HMGET', KEYS[1], 'claim', 'status', 'print', 'end')
local owner, status, ends = entry[1], entry[2], tonumber(entry[4] or 0)
local live, mine = owner and ends > now, owner == claim
local function write(new, value)
  local at = string.format('%.0f', now + span)
  redis.call('HSET', KEYS[1], 'claim', claim, 'status', new, 'end', at)
  if value then redis.call('HSET', KEYS[1], 'value', value) end
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(span / 1000) + 3600000))
  redis.call('ZADD', KEYS[2], at, KEYS[1])
end
if operation == 'claim' then
  if live then
    if print ~= '' and entry[3] and entry[3] ~= '' and entry[3] ~= print then return { 'mismatch' } end
    if status == 'done' then return { 'done', redis.call('HGET', KEYS[1], 'value') } end
    if status == 'not kept' then return { 'not kept' } end
    if not mine then return { 'in flight', string.format('%.0f', ends - now) } end
  else
    redis.call('DEL', KEYS[1])
  end
  if print ~= '' then redis.call('HSET', KEYS[1], 'print', print) end
  write('in flight')
  return { 'owned' }
elseif operation == 'renew' then
  if not mine or status ~= 'in flight' then return { 'fenced' } end
  write('in flight')
elseif operation == 'done' or operation == 'not kept' then
  if not mine then return { 'fenced' } end
  if status == 'in flight' then
    if operation == 'done' then write('done', ARGV[6]) else write('not kept') end
  elseif status ~= operation or not live then
    return { 'fenced' }
  end
elseif operation == 'release' then
  if mine and status == 'in flight' then
    redis.call('DEL', KEYS[1])
    redis.call('ZREM', KEYS[2], KEYS[1])
  end
elseif operation == 'outcome' then
  if live and mine and status == 'done' then return { 'done', redis.call('HGET', KEYS[1], 'value') } end
  return { 'none' }
end
return { 'ok' }",
    )
});

/// Removes entries of one partition that have ended.
pub(super) static SWEEP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local at = string.format('%.0f', now)
local ended = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', at, 'LIMIT', 0, ARGV[2])
for _, key in ipairs(ended) do
  redis.call('DEL', key)
  redis.call('ZREM', KEYS[1], key)
end
return #ended",
    )
});
