//! A request to a server: a command or a script, the key that determines the server, and the kind of operation.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, Script, ServerErrorKind, ToRedisArgs, cmd, pipe};

/// The kind of operation, which determines where it may be sent and when it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A replica can answer it while the primary is unreachable.
    Read,
    Write,
    /// A write that must survive the loss of the primary: it is complete once a replica has it, if there is one.
    Durable,
}

#[derive(Debug)]
pub(super) struct Request {
    /// All keys of a request share a hash tag, so that one node of a cluster has them.
    pub(super) key: String,
    pub(super) kind: Kind,
    command: Cmd,
    script: Option<&'static Script>,
}

impl Request {
    /// `name key`, the beginning of a command.
    pub(super) fn new(kind: Kind, name: &str, key: String) -> Self {
        let mut command = cmd(name);
        command.arg(&key);
        Self { key, kind, command, script: None }
    }

    pub(super) fn script(kind: Kind, script: &'static Script, keys: &[&str]) -> Self {
        let mut command = cmd("EVALSHA");
        command.arg(script.get_hash()).arg(keys.len()).arg(keys);
        Self { key: keys.concat(), kind, command, script: Some(script) }
    }

    pub(super) fn arg(mut self, argument: impl ToRedisArgs) -> Self {
        self.command.arg(argument);
        self
    }

    pub(super) async fn send<T: FromRedisValue>(&self, connection: &mut MultiplexedConnection) -> RedisResult<T> {
        let answer = self.command.query_async(connection).await;
        match (answer, self.script) {
            (Err(error), Some(script)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                script.load_async(connection).await?;
                self.command.query_async(connection).await
            }
            (answer, _) => answer,
        }
    }

    /// Sends it to the node that takes over the key's slot.
    pub(super) async fn send_asking<T: FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<T> {
        if let Some(script) = self.script {
            script.load_async(connection).await?;
        }
        let mut both = pipe();
        both.cmd("ASKING").ignore().add_command(self.command.clone());
        let (answer,) = both.query_async(connection).await?;
        Ok(answer)
    }
}
