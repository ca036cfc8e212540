//! What sessions need: the keys, the cookie and the store. It seals a made-up session to learn the cookie's size.

use std::path::Path;
use std::time::Duration;

use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::finding::Finding;
use crate::clock::{SharedClock, Timestamp};
use crate::config::Config;
use crate::cookies::{Jar, RequestCookies};
use crate::oauth::service::is_stored;
use crate::seal::{Keyring, Purpose, SharedKeyring};
use crate::session::tokens::{AccessToken, RefreshToken};
use crate::session::{Grant, IdentityFields, Organization, Session, Tokens, User};
use crate::store;

/// The total size of `Cookie`, including other cookies, that most web servers accept.
const COMFORTABLE: usize = 4096;

pub(super) async fn all(config: &Config, clock: &SharedClock, control: &Handle) -> Vec<Finding> {
    let ring = match config.keyring() {
        Ok(ring) => ring,
        Err(error) => {
            let remedy = "run `upwarden key --out session-key` and name the file in session.key_files";
            return vec![Finding::fail("session keys", error.to_string(), remedy)];
        }
    };
    vec![
        Finding::ok("session keys", format!("{}; the first seals, all open", ring.count())),
        cookie(config, &ring, clock.now()),
        store(config, SharedKeyring::new(ring), clock, control).await,
    ]
}

fn cookie(config: &Config, ring: &Keyring, now: Timestamp) -> Finding {
    const WHAT: &str = "cookie";
    let jar = Jar::new(config.session.cookie.clone(), config.session.secure);
    let value = match &config.store {
        store::Config::Cookie => sample(now).map(|session| session.to_bytes()),
        // The name and the key of a record, in JSON.
        store::Config::Embedded { .. } | store::Config::Valkey(_) => Some(vec![b'x'; 100].into()),
    };
    let value = value.and_then(|bytes| ring.seal(Purpose::Session, &bytes).ok());
    let Some(value) = value else {
        return Finding::fail(WHAT, "a session cannot be sealed", "this machine provides no random bytes");
    };
    let Ok(lines) = jar.set(&value, config.session.lifetime.idle, &RequestCookies::default()) else {
        return Finding::fail(
            WHAT,
            "a session does not fit into its cookies",
            "set store.kind = \"embedded\" or \"valkey\"",
        );
    };
    let attributes = lines.first().and_then(|line| line.to_str().ok()).and_then(|line| line.split_once("; "));
    let attributes = attributes.map_or_else(String::new, |(_, attributes)| attributes.to_owned());
    let bytes = value.len() + jar.name().len();
    let text = format!(
        "{}, {attributes}; about {bytes} of the 4096 bytes that browsers allow, in {} cookie(s)",
        jar.name(),
        lines.len()
    );
    if bytes > COMFORTABLE {
        Finding::warn(WHAT, text, "set store.kind = \"embedded\" or \"valkey\" for a short cookie")
    } else {
        Finding::ok(WHAT, text)
    }
}

/// A typical session, with tokens as long as Upwork's.
fn sample(now: Timestamp) -> Option<Session> {
    let token = "oauth2v2_pub_0123456789abcdef0123456789abcdef".to_owned();
    let name = || Some("Somebody With-A-Rather-Long Name".to_owned());
    Some(Session {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        user: User { id: "1181921839933591552".to_owned(), nid: "somebody_with_a_name".to_owned(), name: name() },
        organization: Some(Organization { id: "1181921839933591553".to_owned(), name: name() }),
        grant: Grant::Code,
        tokens: Tokens {
            access: AccessToken::parse(token.clone()).ok()?,
            refresh: Some(RefreshToken::parse(token).ok()?),
            issued_at: now,
            expires_at: now.plus(Duration::from_secs(86_400)),
        },
        began_at: now,
        refreshed: None,
        checked: None,
        identity: IdentityFields::default(),
    })
}

/// Whether the service identity has a refresh token, in the store or in the file that the next start imports.
pub(super) async fn refresh_token(config: &Config, file: Option<&Path>, clock: &SharedClock) -> Finding {
    const WHAT: &str = "service";
    let stored = match (&config.store, config.keyring()) {
        (store::Config::Embedded { path }, _) if !path.exists() => Ok(false),
        (_, Err(error)) => Err(error.to_string()),
        (_, Ok(ring)) => {
            match store::open_store(&config.store, SharedKeyring::new(ring), clock.clone(), Handle::current()) {
                Ok(store) => is_stored(&store).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            }
        }
    };
    let in_file = file.map(|file| {
        let text = std::fs::read_to_string(file).map(Zeroizing::new).map_err(|error| error.to_string())?;
        RefreshToken::parse(text.trim_end().to_owned()).map(drop).map_err(|_| "it holds no token".to_owned())
    });
    let not_tried = "not tried, because each attempt replaces the token of a running upwarden";
    let why = match (&stored, in_file) {
        (Ok(true), _) => return Finding::ok(WHAT, format!("the store has a refresh token; {not_tried}")),
        (_, Some(Ok(()))) => return Finding::ok(WHAT, format!("its file has a refresh token; {not_tried}")),
        (Err(error), _) => {
            let text = format!("it is unknown whether the store has its refresh token: {error}");
            return Finding::warn(WHAT, text, "expected while upwarden is running with the embedded store");
        }
        (Ok(false), None) => "the store has none, and service.refresh_token_file is not set".to_owned(),
        (Ok(false), Some(Err(error))) => format!("the store has none, and service.refresh_token_file: {error}"),
    };
    Finding::fail(WHAT, format!("it has no refresh token: {why}"), "run `upwarden login`")
}

async fn store(config: &Config, ring: SharedKeyring, clock: &SharedClock, control: &Handle) -> Finding {
    const WHAT: &str = "store";
    match &config.store {
        store::Config::Cookie => return Finding::ok(WHAT, "cookie: the browser has the session, nothing to run"),
        store::Config::Embedded { path } if !path.exists() => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let found = folder.is_none_or(std::path::Path::is_dir);
            let text = format!("embedded: {} does not exist yet", path.display());
            return if found {
                Finding::ok(WHAT, format!("{text}; the first start creates it"))
            } else {
                Finding::fail(WHAT, format!("{text}, nor does its folder"), "create the folder, or correct store.path")
            };
        }
        store::Config::Embedded { .. } | store::Config::Valkey(_) => {}
    }
    let embedded = matches!(config.store, store::Config::Embedded { .. });
    let opened = store::open_store(&config.store, ring, clock.clone(), control.clone());
    let asked = match opened {
        // An empty counter that expires at once.
        Ok(store) => match store.add_to_counter("doctor", 0, clock.now().plus(Duration::from_secs(1))).await {
            Ok(_) => store.survey().await,
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    match asked {
        Ok(None) => Finding::ok(WHAT, "embedded: the file opens"),
        Ok(Some(survey)) if survey.alone.is_empty() => Finding::ok(WHAT, format!("valkey: {}", survey.text)),
        Ok(Some(survey)) => {
            let text = format!("valkey: {}; no server could replace {}", survey.text, survey.alone.join(", "));
            Finding::warn(WHAT, text, "add a replica, or a lost server's sessions are lost with it")
        }
        Err(error) if embedded => Finding::warn(
            WHAT,
            format!("embedded: {error}"),
            "expected while upwarden is running: only one process can open the file at a time",
        ),
        Err(error) => {
            let remedy = "start the server, or correct store.url, store.ca_file and store.cert_file";
            Finding::fail(WHAT, format!("valkey: {error}"), remedy)
        }
    }
}
