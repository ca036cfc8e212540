//! Connections that become another protocol.

mod doors; // at one door
pub(crate) mod protocols; // through the whole sidecar
