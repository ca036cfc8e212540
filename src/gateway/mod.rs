//! The gate.

use ipnet::IpNet;

use crate::secret::Secret;

/// What the gate itself needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `https://tools.example.com`: scheme, host and, where it is not the scheme's own, port; no path, no final slash.
    pub public_url: String,
    /// CORS preflights go to the app without a session (`app.preflight = "pass"`).
    pub preflight_pass: bool,
    /// Requests to the app carry a ticket.
    pub tickets: bool,
    /// Who is believed about `X-Forwarded-*` and `Forwarded`.
    pub trusted_proxies: Vec<IpNet>,
    /// GraphQL queries and REST by GET only, at the public door.
    pub public_read_only: bool,
    /// The same at the neighbour door.
    pub neighbour_read_only: bool,
    /// Host names the neighbour door answers to, in lower case, without a port; any port is fine.
    pub neighbour_hosts: Vec<String>,
    /// Shown by callers of a neighbour door beyond loopback.
    pub neighbour_secret: Option<Secret>,
    /// Where the neighbour door listens, for the page; `None` where it is off.
    pub neighbour_address: Option<String>,
    /// Sign-ins one client address may begin in a burst.
    pub sign_ins_per_address: u32,
}
