//! The few things that must happen on the server as one, each on one key, so that a cluster can run them.

use std::sync::LazyLock;

use redis::Script;

/// Takes a lock, or keeps one's own for longer. `KEYS[1]` the lock; `ARGV` owner, lease in milliseconds.
pub(super) static LOCK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1",
    )
});

/// Gives one's own lock back. `KEYS[1]` the lock; `ARGV` owner.
pub(super) static UNLOCK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0",
    )
});

/// Lists a session under its owner, drops those that have ended, and lets the list live as long as its longest session.
/// `KEYS[1]` the list; `ARGV` session, its end, now, what is left until its end; all in milliseconds.
pub(super) static INDEX: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 1",
    )
});

/// Compares a record's version and sets. `KEYS[1]` the namespace; `ARGV` name, value, the version expected (`*` any, empty
/// for none yet), a version's length. Asked again, since its answer was lost, it finds its own version there and says yes.
pub(super) static PUT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local value = redis.call('HGET', KEYS[1], ARGV[1])
local version = value and string.sub(value, 1, tonumber(ARGV[4])) or ''
if version == string.sub(ARGV[2], 1, tonumber(ARGV[4])) then return 1 end
if ARGV[3] ~= '*' and version ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1",
    )
});

/// Adds to a counter; its life is set once. `KEYS[1]` the counter; `ARGV` by how much, its life in milliseconds.
pub(super) static ADD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local sum = redis.call('INCRBY', KEYS[1], ARGV[1])
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return sum",
    )
});
