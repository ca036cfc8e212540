//! Operations that the server must do atomically. A script has one key, so that a cluster can run it where the key is.

use std::sync::LazyLock;

use redis::Script;

/// Takes a lock, or extends the caller's own. `KEYS[1]` the lock; `ARGV` owner, lease in milliseconds.
pub(super) static LOCK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1",
    )
});

/// Frees the caller's own lock. `KEYS[1]` the lock; `ARGV` owner.
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

/// Lists a name until its end, drops names that have ended, and keeps the list as long as its longest name. An end
/// earlier than the listed one changes nothing. `KEYS[1]` the list; `ARGV` name, its end (`inf` for none), now; in
/// milliseconds.
pub(super) static LIST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
if last == 'inf' then
    redis.call('PERSIST', KEYS[1])
elseif last then
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', tonumber(last) - tonumber(ARGV[3])))
end
return 1",
    )
});

/// Writes a record if its version is as expected. `KEYS[1]` the record; `ARGV` value, the expected version (`*` for any, empty
/// for none yet), the length of a version, its time to live in milliseconds (empty for no end). If it is sent again because
/// the answer was lost, it finds its own version and succeeds.
pub(super) static PUT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local value = redis.call('GET', KEYS[1])
local version = value and string.sub(value, 1, tonumber(ARGV[3])) or ''
if version == string.sub(ARGV[1], 1, tonumber(ARGV[3])) then return 1 end
if ARGV[2] ~= '*' and version ~= ARGV[2] then return 0 end
if ARGV[4] == '' then
    redis.call('SET', KEYS[1], ARGV[1])
else
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
end
return 1",
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
