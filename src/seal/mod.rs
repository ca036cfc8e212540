//! Authenticated encryption of what leaves our hands: AES-256-GCM under a key ring.
//!
//! In: bytes and what they are for. Out: text for a cookie, a query or a store, and the bytes again; every fault on the way
//! back is the same "does not open" (docs/design.md "Opening what was sealed"). It never uses a key for two messages: each seal derives its own.
//!
//! Format, base64url without padding: `version(1) ‖ key id(4) ‖ salt(16) ‖ ciphertext ‖ tag(16)`. Key and nonce of a seal are
//! `HKDF-Expand(PRK, purpose ‖ salt)` (RFC 5869), so that nonces never run out: two seals meet after about 2⁶⁴ salts.

pub(crate) mod keyring;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub use keyring::{Key, Keyring};

/// What a sealed value is for. One purpose's value never opens as another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A session, or the reference to one, in its cookie.
    Session,
    /// A sign-in under way, in its cookie.
    Login,
    /// The `state` parameter of a sign-in.
    State,
    /// A ticket for the neighbour door.
    Ticket,
    /// A grant in a store.
    Grant,
}

impl Purpose {
    /// The bytes in the associated data.
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Session => b"upwarden session",
            Self::Login => b"upwarden login",
            Self::State => b"upwarden state",
            Self::Ticket => b"upwarden ticket",
            Self::Grant => b"upwarden grant",
        }
    }
}

/// The ring that every room shares and that a reload replaces.
#[derive(Clone, Debug)]
pub struct Ring(Arc<ArcSwap<Keyring>>);

impl Ring {
    /// Starts with `keyring`.
    pub fn new(keyring: Keyring) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(keyring)))
    }

    /// The ring of now.
    pub fn now(&self) -> Arc<Keyring> {
        self.0.load_full()
    }

    /// From now on this one.
    pub fn replace(&self, keyring: Keyring) {
        self.0.store(Arc::new(keyring));
    }
}

/// Fills an array with random bytes of the system's generator.
///
/// # Errors
/// Where the system has none to give; there is nothing safe to do without them.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct NoRandomness;
