//! Errors between a request and the head of its response.

use std::io;

use crate::http1;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no file descriptor is left for a connection to the upstream")]
    NoDescriptor,
    #[error("cannot connect to the upstream")]
    Connect(#[source] io::Error),
    #[error("connecting to the upstream timed out")]
    ConnectTimeout,
    #[error(transparent)]
    Exchange(#[from] http1::Error),
    #[error("the upstream switched to a protocol that was not requested")]
    UnexpectedUpgrade,
}

impl Error {
    /// Nothing was sent: there was no connection.
    pub(crate) fn is_connect(&self) -> bool {
        match self {
            Self::NoDescriptor | Self::Connect(_) | Self::ConnectTimeout => true,
            Self::Exchange(_) | Self::UnexpectedUpgrade => false,
        }
    }
}
