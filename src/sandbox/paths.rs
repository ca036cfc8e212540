//! Upwork's own paths.

/// The authorize page, where the browser signs in.
pub const AUTHORIZE_PATH: &str = "/ab/account-security/oauth2/authorize";
/// The token endpoint.
pub const TOKEN_PATH: &str = "/api/v3/oauth2/token";
/// The revocation endpoint (RFC 7009).
pub const REVOKE_PATH: &str = "/api/v3/oauth2/token/revoke";
/// The GraphQL endpoint.
pub const GRAPHQL_PATH: &str = "/graphql";
pub(super) const LOGOUT_PATH: &str = "/ab/account-security/logout";
pub(super) const STYLE_PATH: &str = "/ab/account-security/sandbox.css";
