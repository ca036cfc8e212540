//! Checks Upwork as seen from this machine: token endpoint, authorization page, APIs, clock, and the service identity's
//! token.
//!
//! It uses no real token: the refresh token that it sends is made up.

use std::sync::Arc;

use http::header::{DATE, HeaderMap};
use http::{Method, Response, StatusCode};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::runtime::Handle;
use url::Url;

use super::finding::Finding;
use super::probe::{self, Probe};
use super::session;
use crate::clock::{SharedClock, Timestamp};
use crate::config::Config;
use crate::descriptors::Descriptors;
use crate::oauth::login::Login;
use crate::oauth::token::{Client, TokenError, TokenGrant};
use crate::oauth::upwork::Upwork;
use crate::oauth::{Grant, ServiceGrant};
use crate::pacing::{CallerId, Pacer};
use crate::router::ReturnTo;
use crate::seal::Keyring;
use crate::session::tokens::RefreshToken;
use crate::telemetry::metrics::Metrics;

/// A clock difference that gets a warning, and one that breaks sign-ins.
const WARN_SECONDS: u64 = 30;
const FAIL_SECONDS: u64 = 300;

const BOT_WALL: &str = "the CDN in front of Upwork treats this machine as a bot: set upwork.user_agent to a real name, or \
                        use another address with upwork.proxy";
const UNREACHABLE: &str =
    "check name resolution, the firewall and upwork.proxy; for a CA of your own, set upwork.ca_file";

pub(super) async fn all(config: &Config, clock: &SharedClock) -> Vec<Finding> {
    let pacer = Pacer::new(&config.broker.pace, clock.clone(), Arc::new(Metrics::new()), Handle::current());
    let descriptors = Descriptors::new(None);
    let upwork = Upwork::new(config.oauth.clone(), clock.clone(), Handle::current(), pacer, descriptors);
    let mut findings = vec![callback(config), token(&upwork).await];
    let outbound = &config.oauth.outbound;
    let page = probe::upwork(outbound, &authorization_request(config, clock.now()), Method::GET, "").await;
    let mut off_by = clock_difference(&page, clock.now());
    findings.push(authorize(page, &config.oauth.redirect_uri));
    let query = "{\"query\":\"{ __typename }\"}";
    let graphql = probe::upwork(outbound, &config.broker.graphql_url, Method::POST, query).await;
    off_by = off_by.or_else(|| clock_difference(&graphql, clock.now()));
    findings.push(api("GraphQL API", "upwork.graphql_url", graphql));
    let mut rest = config.broker.api_url.clone();
    rest.set_path("/api/auth/v1/info.json");
    findings.push(api("REST API", "upwork.api_url", probe::upwork(outbound, &rest, Method::GET, "").await));
    findings.push(time(off_by));
    findings.extend(service(config, &upwork, clock).await);
    findings
}

fn callback(config: &Config) -> Finding {
    let text = format!("register exactly {} for the API key at Upwork", config.oauth.redirect_uri);
    if config.session.secure {
        return Finding::ok("callback", text);
    }
    let remedy = "plain http works on this machine only; everyone else needs an https public_url";
    Finding::warn("callback", text, remedy)
}

/// The endpoint reports `invalid_grant` for a refresh token that cannot exist only after it has accepted the client.
async fn token(upwork: &Arc<Upwork>) -> Finding {
    const WHAT: &str = "token endpoint";
    if upwork.config().grant == Grant::Implicit {
        return Finding::ok(WHAT, "not needed with upwork.grant = \"implicit\"");
    }
    let Ok(made_up) = RefreshToken::parse("oauth2v2_upwarden_doctor_asks_with_no_token".to_owned()) else {
        return Finding::fail(WHAT, "it cannot be called", "this is a bug in upwarden; please report it");
    };
    match upwork.tokens(TokenGrant::Refresh(&made_up), CallerId::SignIn(None)).await {
        Ok(_) => Finding::warn(WHAT, "it accepts a refresh token that does not exist", "check upwork.token_url"),
        Err(TokenError::InvalidGrant(_)) => {
            Finding::ok(WHAT, "it accepts this client (and refused a made-up refresh token)")
        }
        Err(TokenError::Misconfigured(error))
            if error.code == "invalid_client" || error.code == "unauthorized_client" =>
        {
            let remedy = "compare upwork.client_id and upwork.client_secret with the API key at Upwork";
            Finding::fail(WHAT, format!("it refuses this client: {error}"), remedy)
        }
        Err(TokenError::Misconfigured(error)) => {
            let remedy = "sign in once to see whether the API key works";
            Finding::warn(WHAT, format!("it answers with an unexpected error: {error}"), remedy)
        }
        Err(TokenError::Unavailable(unavailable)) => {
            let remedy = if unavailable.reason.contains("HTML") { BOT_WALL } else { UNREACHABLE };
            Finding::fail(WHAT, unavailable.reason, remedy)
        }
    }
}

/// The address that a sign-in would open. Requesting it signs no one in.
fn authorization_request(config: &Config, now: Timestamp) -> Url {
    let request = Keyring::generate().and_then(|ring| Login::begin(&config.oauth, &ring, &ReturnTo::home(), 0, now));
    let url = request.ok().and_then(|request| Url::parse(&request.url).ok());
    url.unwrap_or_else(|| config.oauth.authorize_url.clone())
}

fn authorize(page: Probe, redirect_uri: &str) -> Finding {
    const WHAT: &str = "authorize page";
    let status = match page {
        Err(why) => return Finding::fail(WHAT, why, UNREACHABLE),
        Ok(response) => response.status(),
    };
    let text = format!("it answers {}", status.as_u16());
    if status == StatusCode::NOT_FOUND || status.is_server_error() {
        let remedy = "compare upwork.authorize_url with Upwork's documentation; a 5xx may be temporary";
        return Finding::fail(WHAT, text, remedy);
    }
    if status == StatusCode::BAD_REQUEST {
        let remedy = format!(
            "compare upwork.client_id with the API key, and register exactly {redirect_uri} for it; a sandbox knows it with \
             --client ID:SECRET:{redirect_uri}"
        );
        return Finding::fail(WHAT, format!("{text}: it refuses this client id or redirect URI"), remedy);
    }
    // A bot check that stops this program may let browsers through.
    Finding::ok(WHAT, text)
}

fn api(what: &'static str, key: &str, response: Probe) -> Finding {
    match response {
        Err(why) => Finding::fail(what, why, UNREACHABLE),
        Ok(response) => {
            let text = format!("it answers {}", response.status().as_u16());
            if is_html(&response) {
                Finding::fail(what, format!("{text} with an HTML page"), BOT_WALL)
            } else if response.status() == StatusCode::UNAUTHORIZED {
                Finding::ok(what, format!("{text} without a token, as expected"))
            } else {
                Finding::warn(what, format!("{text} without a token; 401 was expected"), format!("check {key}"))
            }
        }
    }
}

/// A page instead of JSON usually comes from the bot check of the CDN in front of Upwork.
fn is_html(response: &Response<Vec<u8>>) -> bool {
    response.body().trim_ascii_start().starts_with(b"<")
}

fn clock_difference(response: &Probe, now: Timestamp) -> Option<i64> {
    off_by(response.as_ref().ok()?.headers(), now)
}

/// How many seconds our clock is ahead of the sender's.
fn off_by(headers: &HeaderMap, now: Timestamp) -> Option<i64> {
    let date = OffsetDateTime::parse(headers.get(DATE)?.to_str().ok()?, &Rfc2822).ok()?;
    Some(now.seconds() - date.unix_timestamp())
}

fn time(off_by: Option<i64>) -> Finding {
    const WHAT: &str = "clock";
    const SYNC: &str = "synchronize this machine's clock (NTP); sessions and tokens expire by it";
    let Some(off_by) = off_by else {
        return Finding::warn(WHAT, "Upwork's responses have no date", "nothing to do if the other checks pass");
    };
    let (seconds, direction) = (off_by.unsigned_abs(), if off_by > 0 { "ahead of" } else { "behind" });
    let text = format!("{seconds} s {direction} Upwork's");
    match seconds {
        FAIL_SECONDS.. => Finding::fail(WHAT, text, SYNC),
        WARN_SECONDS.. => Finding::warn(WHAT, text, SYNC),
        _ => Finding::ok(WHAT, "within a few seconds of Upwork's"),
    }
}

async fn service(config: &Config, upwork: &Arc<Upwork>, clock: &SharedClock) -> Option<Finding> {
    const WHAT: &str = "service";
    let service = config.service.clone()?;
    if let ServiceGrant::RefreshToken { file } = &service.grant {
        return Some(session::refresh_token(config, file.as_deref(), clock).await);
    }
    let secret = service.client_secret.load();
    let client = Client { id: &service.client_id, secret: &secret, redirect_uri: "" };
    Some(match upwork.tokens_for(client, TokenGrant::ClientCredentials, CallerId::SignIn(None)).await {
        Ok(_) => Finding::ok(WHAT, "it gets a token by client_credentials"),
        Err(error) => Finding::fail(
            WHAT,
            format!("it gets no token: {error}"),
            "client_credentials needs an enterprise API key: compare service.client_id and service.client_secret with it",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn the_clock_is_judged_by_its_difference() {
        let table = [(0, Level::Ok), (-29, Level::Ok), (30, Level::Warn), (-299, Level::Warn), (300, Level::Fail)];
        for (seconds, level) in table {
            assert_eq!(time(Some(seconds)).level, level, "{seconds}");
        }
        assert_eq!(time(None).level, Level::Warn);
        assert!(time(Some(-400)).text.contains("400 s behind"));
    }

    #[test]
    fn the_date_header_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, http::HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(off_by(&headers, Timestamp::from_seconds(784_111_780)), Some(3));
    }
}
