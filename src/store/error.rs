use crate::seal::NoRandomness;

/// Why a session or record could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached; it may come back by itself.
    #[error("the session store cannot be reached: {0}")]
    Down(String),
    /// The session was ended in the meantime (signed out, perhaps everywhere). It is not written again.
    #[error("the session was ended in the meantime")]
    Ended,
    /// The configuration of the store does not work.
    #[error("{0}")]
    Setup(String),
    #[error("store.kind = \"cookie\" keeps no records; use \"embedded\" or \"valkey\"")]
    NoRecords,
    #[error("the session cannot be sealed")]
    Sealing(#[from] NoRandomness),
}

impl StoreError {
    /// A task of ours was cancelled.
    pub(super) fn stopping() -> Self {
        Self::Down("upwarden is stopping".to_owned())
    }
}
