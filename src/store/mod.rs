//! Where sessions live.

use std::path::PathBuf;

use crate::secret::Secret;

/// Which store, and where: CONTRACT "store".
#[derive(Clone, Debug, Default)]
pub enum Config {
    /// The browser holds the sealed session.
    #[default]
    Cookie,
    /// One file, one process.
    Embedded {
        /// The database file.
        path: PathBuf,
    },
    /// Valkey or Redis.
    Valkey {
        /// `redis://`, `rediss://` or `valkey(s)://`, with user and password where needed.
        url: Secret,
        /// A CA of its own for TLS.
        ca_file: Option<PathBuf>,
    },
}
