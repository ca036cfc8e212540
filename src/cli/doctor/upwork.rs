//! Upwork, as it is reached from here: token endpoint, authorize page, API, its clock, and the service identity.
//!
//! In: the configuration. Out: findings. It redeems nothing: the refresh token it shows is made up.

use http::header::{DATE, HeaderMap};
use http::{Method, StatusCode};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::runtime::Handle;

use super::Finding;
use super::look::{self, Seen};
use crate::clock::{SharedClock, Timestamp};
use crate::config::Config;
use crate::oauth::token::{Client, TokenError, TokenGrant};
use crate::oauth::upwork::Upwork;
use crate::oauth::{Grant, ServiceGrant};
use crate::session::tokens::RefreshToken;

/// A clock that is further off is worth a word, and one that is this far off breaks sign-ins.
const WARN_SECONDS: u64 = 30;
const FAIL_SECONDS: u64 = 300;

const WALL: &str = "the CDN in front of Upwork takes this machine for a robot: give upwork.user_agent a real name, or \
                    send through another address with upwork.proxy";
const REACH: &str = "look at name resolution, firewall and upwork.proxy; for a CA of your own set upwork.ca_file";

pub(super) async fn all(config: &Config, clock: &SharedClock) -> Vec<Finding> {
    let upwork = Upwork::new(config.oauth.clone(), clock.clone(), Handle::current());
    let mut findings = vec![callback(config), token(&upwork).await];
    let mut dates = Vec::new();
    let authorize = {
        let seen = look::upwork(&config.oauth.outbound, &config.oauth.authorize_url, Method::GET, "").await;
        dates.extend(seen.as_ref().ok().and_then(|seen| off_by(&seen.headers, clock.now())));
        authorize(seen)
    };
    let graphql = {
        let query = "{\"query\":\"{ __typename }\"}";
        let seen = look::upwork(&config.oauth.outbound, &config.broker.graphql_url, Method::POST, query).await;
        dates.extend(seen.as_ref().ok().and_then(|seen| off_by(&seen.headers, clock.now())));
        api("GraphQL API", "upwork.graphql_url", seen)
    };
    let rest = match config.broker.api_url.join("/api/auth/v1/info.json") {
        Ok(url) => api("REST API", "upwork.api_url", look::upwork(&config.oauth.outbound, &url, Method::GET, "").await),
        Err(_) => {
            Finding::fail("REST API", "upwork.api_url takes no path", "write an origin such as https://www.upwork.com")
        }
    };
    findings.extend([authorize, graphql, rest, time(dates.first().copied())]);
    findings.extend(service(config, &upwork).await);
    findings
}

fn callback(config: &Config) -> Finding {
    let uri = &config.oauth.redirect_uri;
    let text = format!("{uri} must stand on the key at Upwork, exactly so");
    if config.session.secure {
        Finding::ok("callback", text)
    } else {
        Finding::warn(
            "callback",
            text,
            "http is for trying things on this machine only: others need an https public_url",
        )
    }
}

/// A refresh token that cannot exist is refused by name only where the client was accepted.
async fn token(upwork: &std::sync::Arc<Upwork>) -> Finding {
    const WHAT: &str = "token endpoint";
    if upwork.config().grant == Grant::Implicit {
        return Finding::ok(WHAT, "not needed with upwork.grant = \"implicit\"");
    }
    let Ok(made_up) = RefreshToken::parse("oauth2v2_upwarden_doctor_asks_with_no_token".to_owned()) else {
        return Finding::fail(WHAT, "the question cannot be asked", "this is a fault of upwarden: please report it");
    };
    match upwork.tokens(TokenGrant::Refresh(&made_up)).await {
        Ok(_) => {
            Finding::warn(WHAT, "it gave tokens for a token that does not exist", "look at what upwork.token_url names")
        }
        Err(TokenError::InvalidGrant(_)) => {
            Finding::ok(WHAT, "it knows this client (asked with a made-up token, which it refused)")
        }
        Err(TokenError::Misconfigured(error))
            if error.code == "invalid_client" || error.code == "unauthorized_client" =>
        {
            Finding::fail(
                WHAT,
                format!("it refuses this client: {error}"),
                "compare upwork.client_id and upwork.client_secret with the key at Upwork",
            )
        }
        Err(TokenError::Misconfigured(error)) => Finding::warn(
            WHAT,
            format!("it answers, but not as expected: {error}"),
            "sign in once to see whether the key works",
        ),
        Err(TokenError::Unavailable(unavailable)) => {
            let remedy = if unavailable.reason.contains("HTML") { WALL } else { REACH };
            Finding::fail(WHAT, unavailable.reason, remedy)
        }
    }
}

fn authorize(seen: Result<Seen, String>) -> Finding {
    const WHAT: &str = "authorize page";
    match seen {
        Err(why) => Finding::fail(WHAT, why, REACH),
        Ok(Seen { status, .. }) if status == StatusCode::NOT_FOUND || status.is_server_error() => Finding::fail(
            WHAT,
            format!("it answers {}", status.as_u16()),
            "compare upwork.authorize_url with Upwork's documentation; a 5xx may pass by itself",
        ),
        // People's browsers open it, and a wall that stops a program need not stop them.
        Ok(Seen { status, .. }) => Finding::ok(WHAT, format!("it answers {}", status.as_u16())),
    }
}

fn api(what: &'static str, key: &str, seen: Result<Seen, String>) -> Finding {
    match seen {
        Err(why) => Finding::fail(what, why, REACH),
        Ok(seen) if seen.status == StatusCode::UNAUTHORIZED && !seen.is_page() => {
            Finding::ok(what, "it answers 401 without a token, as it should")
        }
        Ok(seen) if seen.is_page() => {
            Finding::fail(what, format!("it answers {} with an HTML page", seen.status.as_u16()), WALL)
        }
        Ok(seen) => Finding::warn(
            what,
            format!("it answers {} without a token, where a 401 was expected", seen.status.as_u16()),
            format!("look at what {key} names"),
        ),
    }
}

/// How far the other clock is from ours, in seconds; none where it does not tell.
fn off_by(headers: &HeaderMap, now: Timestamp) -> Option<i64> {
    let date = OffsetDateTime::parse(headers.get(DATE)?.to_str().ok()?, &Rfc2822).ok()?;
    Some(now.seconds() - date.unix_timestamp())
}

fn time(off_by: Option<i64>) -> Finding {
    const WHAT: &str = "clock";
    const SYNC: &str = "synchronize this machine's clock (NTP): sessions and tokens end by it";
    let Some(off_by) = off_by else {
        return Finding::warn(WHAT, "Upwork did not say what time it is", "nothing to do here if the rest is well");
    };
    let (seconds, way) = (off_by.unsigned_abs(), if off_by > 0 { "ahead of" } else { "behind" });
    let text = format!("{seconds} s {way} Upwork's");
    match seconds {
        FAIL_SECONDS.. => Finding::fail(WHAT, text, SYNC),
        WARN_SECONDS.. => Finding::warn(WHAT, text, SYNC),
        _ => Finding::ok(WHAT, "the same as Upwork's, to a few seconds"),
    }
}

async fn service(config: &Config, upwork: &std::sync::Arc<Upwork>) -> Option<Finding> {
    const WHAT: &str = "service";
    let service = config.service.clone()?;
    if matches!(service.grant, ServiceGrant::RefreshToken { .. }) {
        return Some(Finding::ok(
            WHAT,
            "by refresh token; not tried, since each try replaces the token that a running upwarden holds",
        ));
    }
    let client = Client { id: &service.client_id, secret: &service.client_secret, redirect_uri: "" };
    Some(match upwork.tokens_for(client, TokenGrant::ClientCredentials).await {
        Ok(_) => Finding::ok(WHAT, "it gets a token by client_credentials"),
        Err(error) => Finding::fail(
            WHAT,
            format!("it gets no token: {error}"),
            "client_credentials needs an enterprise key: compare service.client_id and service.client_secret with it",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_off() {
        let table = [(0, Level::Ok), (-29, Level::Ok), (30, Level::Warn), (-299, Level::Warn), (300, Level::Fail)];
        for (seconds, level) in table {
            assert_eq!(time(Some(seconds)).level, level, "{seconds}");
        }
        assert_eq!(time(None).level, Level::Warn);
        assert!(time(Some(-400)).text.contains("400 s behind"));
    }

    #[test]
    fn a_date_is_read_as_http_writes_it() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, http::HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(off_by(&headers, Timestamp::from_seconds(784_111_780)), Some(3));
    }
}
