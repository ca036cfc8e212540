use crate::seal::NoRandomness;

/// Why a session or record could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached. It may recover without intervention.
    #[error("the session store cannot be reached: {0}")]
    Down(String),
    /// The session was ended in the meantime, for example by a sign-out. It is not written again.
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
    /// For a task that was cancelled.
    pub(super) fn stopping() -> Self {
        Self::Down("upwarden is stopping".to_owned())
    }
}
