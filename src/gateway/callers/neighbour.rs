//! Who may call at the neighbour listener: local programs. Requests from browsers are refused, and so are host names
//! other than the listener's own (DNS rebinding, docs/design.md "Other sites").

use http::header::{HOST, HeaderValue};

use crate::fields::Fields;
use crate::gateway::config::NeighbourConfig;
use crate::gateway::fault::{ClientFault, Fault, NeighbourFault};
use crate::gateway::request::from_browser;
use crate::proxy::headers::SECRET;
use crate::secret::LiveSecret;

pub(in crate::gateway) fn admit_neighbour(config: &NeighbourConfig, headers: &Fields) -> Result<(), Fault> {
    let shows = |secret: &LiveSecret| headers.get(SECRET).is_some_and(|shown| secret.load().matches(shown.as_bytes()));
    let fault = if from_browser(headers) {
        NeighbourFault::Browser
    } else if !headers.get(HOST).is_some_and(|host| names(&config.hosts, host)) {
        NeighbourFault::Host
    } else if !config.secret.as_ref().is_none_or(shows) {
        NeighbourFault::Secret
    } else {
        return Ok(());
    };
    Err(ClientFault::Neighbour(fault).into())
}

fn names(hosts: &[String], host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    hosts.iter().any(|known| known.eq_ignore_ascii_case(bare))
}
