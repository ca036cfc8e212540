//! Signs claims about a user for others to verify (RFC 7515, ES256), with keys that are derived from the ring.
//!
//! Takes scalars of P-256 and JSON; returns compact JWS, and the public keys as a JWK set (RFC 7517). Private keys
//! never leave the module.

use aws_lc_rs::agreement::{self, ECDH_P256};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::random::NoRandomness;

/// The key pair of one key of the ring.
pub(super) struct SigningKey {
    pair: EcdsaKeyPair,
    /// The base64url header of every JWS.
    header: String,
    public: PublicKey,
}

/// RFC 7517 section 4, RFC 7518 section 6.2.1.
#[derive(Serialize)]
struct PublicKey {
    kty: &'static str,
    crv: &'static str,
    x: String,
    y: String,
    #[serde(rename = "use")]
    purpose: &'static str,
    alg: &'static str,
    kid: String,
}

impl SigningKey {
    /// `None` if the bytes are not a scalar of the curve.
    pub(super) fn from_scalar(scalar: &[u8; 32]) -> Option<Self> {
        let point = agreement::PrivateKey::from_private_key(&ECDH_P256, scalar).ok()?.compute_public_key().ok()?;
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, scalar, point.as_ref());
        // An uncompressed point: 4 ‖ x ‖ y (SEC 1 section 2.3.3).
        let (x, y) = point.as_ref().get(1..)?.split_at_checked(32)?;
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        // The thumbprint of RFC 7638.
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes()));
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{kid}"}}"#));
        let public = PublicKey { kty: "EC", crv: "P-256", x, y, purpose: "sig", alg: "ES256", kid };
        Some(Self { pair: pair.ok()?, header, public })
    }
}

/// The key pairs of a ring, the one that signs first.
pub(crate) struct SigningKeys(Vec<SigningKey>);

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKeys(…)")
    }
}

impl SigningKeys {
    pub(super) fn new(keys: Vec<SigningKey>) -> Self {
        Self(keys)
    }

    /// A JWT (RFC 7519) with these claims.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> Result<String, NoRandomness> {
        let key = self.0.first().ok_or(NoRandomness)?;
        let claims = serde_json::to_vec(claims).map_err(|_| NoRandomness)?;
        let mut token = format!("{}.{}", key.header, URL_SAFE_NO_PAD.encode(claims));
        let signature = key.pair.sign(&SystemRandom::new(), token.as_bytes()).map_err(|_| NoRandomness)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Every public key, as a JWK set.
    pub(crate) fn public(&self) -> impl Serialize + use<> {
        let keys: Vec<&PublicKey> = self.0.iter().map(|key| &key.public).collect();
        serde_json::json!({ "keys": keys })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Key, Keyring};
    use super::*;

    /// The examples of RFC 7515 appendix A.3 (a key pair) and RFC 7638 cannot be wrong in the same way.
    #[test]
    fn the_public_key_of_rfc_7515_is_derived_from_its_private_key() {
        let mut scalar = [0; 32];
        URL_SAFE_NO_PAD.decode_slice("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI", &mut scalar).unwrap();
        let key = SigningKey::from_scalar(&scalar).unwrap();
        assert_eq!(key.public.x, "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
        assert_eq!(key.public.y, "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    }

    #[test]
    fn a_scalar_outside_of_the_curve_is_none() {
        assert!(SigningKey::from_scalar(&[0; 32]).is_none() && SigningKey::from_scalar(&[0xff; 32]).is_none());
    }

    #[test]
    fn keys_follow_the_ring_and_the_deployment() {
        let [one, other] = [(); 2].map(|()| Key::parse(&Key::generate().unwrap()).unwrap());
        let kids = |keys: &[&Key], deployment: &str| -> Vec<String> {
            let ring = Keyring::new(keys.iter().map(|key| (*key).clone()).collect()).unwrap().named(deployment);
            ring.signing_keys().0.into_iter().map(|key| key.public.kid).collect()
        };
        let both = kids(&[&one, &other], "https://a.example");
        assert!(both.len() == 2 && both[0] != both[1]);
        assert_eq!(kids(&[&other, &one], "https://a.example"), [both[1].clone(), both[0].clone()]);
        assert_ne!(kids(&[&one], "https://b.example"), kids(&[&one], "https://a.example"));
    }
}
