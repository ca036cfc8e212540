//! The Rust of docs/apps.md, which a test compares with this file.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value as Claims;

type Error = Box<dyn std::error::Error>;

pub(super) fn user(assertion: &str, keys: &JwkSet, issuer: &str, audience: &str) -> Result<Claims, Error> {
    let mut rules = Validation::new(Algorithm::ES256);
    rules.leeway = 5;
    rules.set_issuer(&[issuer]);
    rules.set_audience(&[audience]);
    rules.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
    let kid = jsonwebtoken::decode_header(assertion)?.kid.ok_or("it names no key")?;
    let key = DecodingKey::from_jwk(keys.find(&kid).ok_or("its key is not there")?)?;
    Ok(jsonwebtoken::decode::<Claims>(assertion, &key, &rules)?.claims)
}
