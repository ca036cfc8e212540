//! What the server must do as one step. The keys of a script share a hash tag, so that a cluster can run it.

use std::sync::LazyLock;

use redis::Script;

/// Takes a lock, or extends one's own. `KEYS[1]` the lock; `ARGV` owner, lease in milliseconds.
pub(super) static LOCK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1",
    )
});

/// Frees one's own lock. `KEYS[1]` the lock; `ARGV` owner.
pub(super) static UNLOCK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0",
    )
});

/// Writes a session's record if the text that was read is still there. `KEYS[1]` the record; `ARGV` text, its time to live in
/// milliseconds, the beginning of what it replaces (empty for a new session). If it is sent again because the answer was
/// lost, it finds its own text and succeeds.
pub(super) static SAVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if ARGV[3] ~= '' then
    local value = redis.call('GET', KEYS[1])
    if value == ARGV[1] then return 1 end
    if not value or string.sub(value, 1, #ARGV[3]) ~= ARGV[3] then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1",
    )
});

/// Lists a session under its owner, drops sessions that have ended, and keeps the list as long as its longest session.
/// `KEYS[1]` the list; `ARGV` session, its end, now, the time between; all in milliseconds.
pub(super) static INDEX: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 1",
    )
});

/// Writes a record if its version is as expected, lists its name, drops names that have expired, and keeps the list as long as
/// its longest record. `KEYS[1]` the record, `KEYS[2]` the list; `ARGV` name, value, the expected version (`*` for any, empty
/// for none yet), the length of a version, now, expiry (`inf` for none), both in milliseconds. If it is sent again because
/// the answer was lost, it finds its own version and succeeds.
pub(super) static PUT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local function left(moment) return string.format('%.0f', tonumber(moment) - tonumber(ARGV[5])) end
local value = redis.call('GET', KEYS[1])
local version = value and string.sub(value, 1, tonumber(ARGV[4])) or ''
if version == string.sub(ARGV[2], 1, tonumber(ARGV[4])) then return 1 end
if ARGV[3] ~= '*' and version ~= ARGV[3] then return 0 end
if ARGV[6] == 'inf' then
    redis.call('SET', KEYS[1], ARGV[2])
else
    redis.call('SET', KEYS[1], ARGV[2], 'PX', left(ARGV[6]))
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[5])
redis.call('ZADD', KEYS[2], ARGV[6], ARGV[1])
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2]
if last == 'inf' then redis.call('PERSIST', KEYS[2]) else redis.call('PEXPIRE', KEYS[2], left(last)) end
return 1",
    )
});

/// Deletes a record and its name. `KEYS[1]` the record, `KEYS[2]` the list; `ARGV` name.
pub(super) static DELETE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('DEL', KEYS[1])",
    )
});

/// Adds to a counter, whose expiry is set once. `KEYS[1]` the counter; `ARGV` by how much, its time to live in milliseconds.
pub(super) static ADD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local sum = redis.call('INCRBY', KEYS[1], ARGV[1])
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return sum",
    )
});
