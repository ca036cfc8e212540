use std::io;

use crate::proxy::endpoint::SetupError;
use crate::store::StoreError;
use crate::{config, tls};

/// Why the server could not start, or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket could not be bound.
    #[error("the {door} door cannot listen on {address}: {source}{remedy}")]
    Bind {
        /// The door.
        door: &'static str,
        /// Its address.
        address: String,
        /// The system's error.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The address of a socket from a supervisor belongs to no door.
    #[error(
        "the socket {0} was passed by the supervisor, but no door listens there; write the same address in the socket unit's \
         ListenStream and in the door's `listen`"
    )]
    Passed(String),
    /// A session key is missing or unusable.
    #[error("the session keys cannot be used: {0}; `upwarden key` prints a new key")]
    Keys(#[from] config::KeyError),
    /// The certificates, or the TLS configuration.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] tls::Error),
    /// A client of the API or of the collector of spans.
    #[error("an HTTP client cannot be set up: {0}")]
    Client(#[from] SetupError),
    /// The session store.
    #[error("the session store cannot be opened: {0}")]
    Store(#[from] StoreError),
    /// The system refuses a thread or a socket.
    #[error("the doors cannot be opened: {0}")]
    Doors(#[source] io::Error),
}
