//! Tests whether the server accepts every command that the store sends, on a separate key.
//!
//! Returns the error that a write would get: memory or disk full, a replica, a missing permission. It leaves nothing on
//! the server, so it can run every few seconds.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script, cmd};

use super::request::{Kind, Request};

/// Every command that the ACL must allow. `KEYS[1]` stays empty.
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

/// Writes nothing, but fails whenever a write would.
pub(super) fn touch(key: String) -> Request {
    Request::new(Kind::Write, "SET", key).arg("").arg("XX").arg("PX").arg(1)
}

/// `replicated`: whether replicas may have to confirm writes.
pub(super) async fn write(connection: &mut MultiplexedConnection, key: String, replicated: bool) -> RedisResult<()> {
    let all = Request::script(Kind::Write, &ALL, &[&key]);
    if replicated {
        cmd("WAIT").arg(0).arg(0).query_async::<()>(connection).await?;
    }
    // Sent separately to get the server's own error code: inside a script, older servers wrap it.
    touch(key).send::<()>(connection).await?;
    all.send::<()>(connection).await
}
