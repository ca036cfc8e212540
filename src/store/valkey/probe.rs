//! Whether the server accepts what the store sends: every command of it, on a name of its own.
//!
//! Returns the error that a write would meet: memory or disk full, a replica, an ACL that lacks something. It leaves nothing
//! in the server, so it can run every few seconds.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Script, cmd};

/// Under the prefix that the ACL allows (docs/sessions.md).
const KEY: &str = "upwarden:{probe}";

/// Every command that the ACL must allow. `KEYS[1]` holds nothing.
static ALL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local key = KEYS[1]
redis.call('SET', key, '', 'PX', 1000)
redis.call('GET', key)
redis.call('PTTL', key)
redis.call('PEXPIRE', key, 1000)
redis.call('DEL', key)
redis.call('INCRBY', key, 1)
redis.call('DEL', key)
redis.call('ZADD', key, 1, 'x')
redis.call('ZRANGE', key, 0, -1)
redis.call('ZCOUNT', key, '-inf', '+inf')
redis.call('TIME')
redis.call('PERSIST', key)
redis.call('ZREMRANGEBYSCORE', key, '-inf', 0)
redis.call('ZREM', key, 'x')
return redis.call('DEL', key)",
    )
});

/// Writes nothing, but is refused whenever a write would be.
pub(super) fn touch() -> Cmd {
    let mut set = cmd("SET");
    set.arg(KEY).arg("").arg("XX").arg("PX").arg(1);
    set
}

pub(super) async fn write(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    // By itself, so that the server's own error code comes back: inside a script, older servers wrap it.
    touch().query_async::<()>(connection).await?;
    ALL.key(KEY).invoke_async::<()>(connection).await
}
