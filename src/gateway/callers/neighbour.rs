//! Who may call at the neighbour listener: local programs, without a browser. What a browser sends is refused, and so is a
//! host name that is not the listener's own (DNS rebinding, docs/design.md "Other sites").

use http::header::{HOST, HeaderMap, HeaderValue};

use crate::gateway::config::NeighbourConfig;
use crate::gateway::fault::NeighbourFault;
use crate::gateway::request::from_browser;
use crate::proxy::headers::SECRET;
use crate::secret::LiveSecret;

pub(super) fn admit(config: &NeighbourConfig, headers: &HeaderMap) -> Result<(), NeighbourFault> {
    if from_browser(headers) {
        return Err(NeighbourFault::Browser);
    }
    if !headers.get(HOST).is_some_and(|host| names(&config.hosts, host)) {
        return Err(NeighbourFault::Host);
    }
    let shows = |secret: &LiveSecret| headers.get(SECRET).is_some_and(|shown| secret.load().matches(shown.as_bytes()));
    if config.secret.as_ref().is_none_or(shows) { Ok(()) } else { Err(NeighbourFault::Secret) }
}

fn names(hosts: &[String], host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    hosts.iter().any(|known| known.eq_ignore_ascii_case(bare))
}
