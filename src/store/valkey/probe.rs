//! Whether the server does what is asked of it: the commands of `store::valkey`, on a name of their own.
//!
//! In: a connection. Out: the error that a write would meet: memory or disk full, a replica, an ACL that lacks something.
//! It leaves nothing behind, so it may be asked every few seconds.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Script, cmd};

/// Only this user's names may be touched (docs: the server's ACL).
const KEY: &str = "upwarden:{probe}";

/// All that the ACL must allow, one after the other. `KEYS[1]` a name that holds nothing.
static ALL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local key = KEYS[1]
redis.call('SET', key, '', 'PX', 1000)
redis.call('GET', key)
redis.call('EXISTS', key)
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

/// Writes nothing, and is refused all the same where a write would be.
pub(super) fn touch() -> Cmd {
    let mut set = cmd("SET");
    set.arg(KEY).arg("").arg("XX").arg("PX").arg(1);
    set
}

/// Writes as the store does.
pub(super) async fn write(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    // Alone, so that the server's own word comes back: inside a script, older servers wrap it.
    touch().query_async::<()>(connection).await?;
    ALL.key(KEY).invoke_async::<()>(connection).await
}
