//! Sealing.
pub mod keyring;
