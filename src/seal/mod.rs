//! Authenticated encryption of everything that is stored outside the process: AES-256-GCM under a keyring.
//!
//! Seals bytes for a purpose as text for a cookie, a query or a store, and opens them again. All failures to open look
//! the same (docs/design.md "Opening what was sealed"). No key is used for two messages: each seal derives its own.
//!
//! Format, base64url without padding: `version(1) ‖ key id(4) ‖ salt(16) ‖ ciphertext ‖ tag(16)`. Key and nonce of a seal are
//! `HKDF-Expand(PRK, purpose ‖ salt)` (RFC 5869), so nonces never run out: two seals collide after about 2⁶⁴ salts.
//!
//! The ring also signs, with key pairs that are derived from its keys ([`SigningKeys`]).

mod keyring;
mod random;
mod signing;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub use self::keyring::{Key, Keyring, Purpose};
pub(crate) use self::keyring::{MAX_TRIED, from_json, to_json, unique_part};
pub use self::random::random;
pub(crate) use self::random::{NoRandomness, random_id};
pub(crate) use self::signing::SigningKeys;

/// The keyring that all parts of the process share, and that a reload replaces.
#[derive(Clone, Debug)]
pub struct SharedKeyring(Arc<ArcSwap<Keyring>>);

impl SharedKeyring {
    pub fn new(keyring: Keyring) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(keyring)))
    }

    pub fn load(&self) -> Arc<Keyring> {
        self.0.load_full()
    }

    pub fn replace(&self, keyring: Keyring) {
        self.0.store(Arc::new(keyring));
    }
}
