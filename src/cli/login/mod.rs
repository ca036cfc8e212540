//! `upwarden login`: connects the service identity from a terminal.
//!
//! In: the configuration, a person with a browser, here or elsewhere. Out: a file with a refresh token, 0600, which a running
//! `serve` imports. The browser comes back to `service.redirect_uri` on this machine; where it cannot, its final address is
//! pasted. It waits for whichever comes first, and redeems a code only for the state it made (RFC 8252 section 7.3).

mod file;
mod way_back;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::run::control;
use super::{Failure, answer, complain, failed};
use crate::clock::{SharedClock, SystemClock};
use crate::config::{self, Config, Sources};
use crate::oauth::callback::{Authorization, Callback, CallbackError};
use crate::oauth::login::{LIFETIME, Login};
use crate::oauth::login_cookies::{BrowserLogins, PendingLogin};
use crate::oauth::token::TokenGrant;
use crate::oauth::upwork::Upwork;
use crate::oauth::{self, Grant, ServiceGrant};
use crate::router::ReturnTo;
use crate::seal::Keyring;
use way_back::{Arrival, WayBack};

/// How the answer to the browser may take to leave.
const GOODBYE: Duration = Duration::from_secs(2);

/// What the command line says.
pub(super) struct Wish {
    /// Where the token goes; else `service.refresh_token_file`.
    pub(super) out: Option<PathBuf>,
    /// Over a file that is there.
    pub(super) force: bool,
    /// Not even where there is one.
    pub(super) no_browser: bool,
}

pub(super) fn login(sources: &Sources, wish: &Wish) -> Result<(), Failure> {
    let config = config::load(sources).map_err(Failure::Config)?;
    let out = file::place(wish.out.clone().or_else(|| configured(&config)), wish.force)?;
    let client = client(&config)?;
    let opens = !wish.no_browser && has_screen(sources);
    control(async { connect(client, opens, &out, wish.force).await })
}

fn configured(config: &Config) -> Option<PathBuf> {
    match &config.service.as_ref()?.grant {
        ServiceGrant::RefreshToken { file } => file.clone(),
        ServiceGrant::ClientCredentials => None,
    }
}

/// The service identity's client at Upwork, as the sign-in knows clients.
fn client(config: &Config) -> Result<oauth::Config, Failure> {
    let missing = |what: &str| Failure::Other(format!("upwarden login: {what}"));
    let service = config.service.clone().ok_or_else(|| {
        missing(
            "there is no service identity to connect; write service.grant = \"refresh_token\", and where it is kept",
        )
    })?;
    if service.grant == ServiceGrant::ClientCredentials {
        return Err(missing(
            "service.grant = \"client_credentials\" needs no login; write \"refresh_token\" to act as a person",
        ));
    }
    let redirect_uri = service.redirect_uri.ok_or_else(|| {
        missing(
            "service.redirect_uri is not set; register http://127.0.0.1:4189/callback for the key, and write it there",
        )
    })?;
    Ok(oauth::Config {
        client_id: service.client_id,
        client_secret: service.client_secret,
        grant: Grant::Code,
        redirect_uri,
        ..config.oauth.clone()
    })
}

/// A screen of this machine, and not of one that was reached over SSH.
fn has_screen(sources: &Sources) -> bool {
    let set = |name: &str| sources.env.iter().any(|(variable, value)| variable == name && !value.is_empty());
    (set("DISPLAY") || set("WAYLAND_DISPLAY") || cfg!(target_os = "macos")) && !set("SSH_CONNECTION")
}

async fn connect(client: oauth::Config, opens: bool, out: &std::path::Path, force: bool) -> Result<(), Failure> {
    let clock: SharedClock = Arc::new(SystemClock);
    let ring = Keyring::generate().map_err(failed)?;
    let request = Login::begin(&client, &ring, &ReturnTo::home(), 0, clock.now()).map_err(failed)?;
    let upwork = Upwork::new(client.clone(), clock.clone(), Handle::current());
    let mut way_back = WayBack::open(&client.redirect_uri).await?;
    answer(&invitation(&request.url, &client.redirect_uri, way_back.listens()))?;
    if opens {
        open_browser(&request.url);
    }
    let deadline = tokio::time::Instant::now() + LIFETIME;
    loop {
        let arrived = tokio::time::timeout_at(deadline, way_back.next()).await;
        let late = || Failure::Other("upwarden login: nobody came back within ten minutes; run it again".to_owned());
        let arrival = arrived.map_err(|_| late())??;
        let now = clock.now();
        let login = Login::open(&ring, &request.cookie, now).map(|login| PendingLogin { slot: 0, login });
        let browser = BrowserLogins { pending: login.into_iter().collect(), any_cookie: true };
        let verified = Callback::parse(arrival.query()).and_then(|callback| {
            let state = callback.state(&ring);
            callback.verify(state.as_ref(), &browser, client.issuer.as_deref(), now).map(|verified| verified.outcome)
        });
        let code = match verified {
            Ok(Ok(Authorization::Code(code))) => code,
            Ok(Err(error @ (CallbackError::Denied(_) | CallbackError::WrongIssuer(_) | CallbackError::Invalid(_)))) => {
                let why = format!("Upwork gave no permission ({error}); nothing was written");
                return fail(&mut way_back, arrival, &why).await;
            }
            Ok(Ok(Authorization::Token(_))) => {
                return fail(&mut way_back, arrival, "Upwork gave a token, and no code; nothing was written").await;
            }
            // Somebody else's, or cut off at the end: the right one may still come.
            Ok(Err(_)) | Err(_) => {
                arrival.say(400, "This is not the way back from the sign-in that upwarden waits for.");
                complain("that address does not belong to this sign-in, or is not whole; paste all of it");
                continue;
            }
        };
        let tokens = match upwork.tokens(TokenGrant::Code(&code)).await {
            Ok(tokens) => tokens,
            Err(error) => return fail(&mut way_back, arrival, &error.to_string()).await,
        };
        let Some(refresh) = tokens.refresh.clone() else {
            return fail(&mut way_back, arrival, "Upwork gave no refresh token; nothing was written").await;
        };
        let who = upwork.user_info(&tokens.access).await.ok().map(|info| info.user);
        let written = file::write(out, refresh.expose(), force);
        if let Err(Failure::Other(why)) = &written {
            return fail(&mut way_back, arrival, why).await;
        }
        arrival.say(200, "Connected. You can close this window and go back to the terminal.");
        way_back.close().await;
        let who =
            who.map_or_else(|| "connected".to_owned(), |user| format!("connected as {} (id {})", user.nid, user.id));
        return answer(&done(&who, out));
    }
}

async fn fail(way_back: &mut WayBack, arrival: Arrival, why: &str) -> Result<(), Failure> {
    arrival.say(400, &format!("Not connected: {why}"));
    way_back.close().await;
    Err(Failure::Other(format!("upwarden login: {why}")))
}

fn invitation(location: &str, redirect_uri: &str, listens: bool) -> String {
    let way = if listens {
        format!(
            "It waits for the browser at {redirect_uri}.\nIs the browser on another machine? It then ends at a page that cannot be reached: paste that page's address here."
        )
    } else {
        format!("Afterwards the browser ends at {redirect_uri}?…: paste that whole address here.")
    };
    format!("Open this address in a browser, as the person whom the service shall act as:\n\n{location}\n\n{way}")
}

fn done(who: &str, out: &std::path::Path) -> String {
    let shown = out.display();
    format!(
        "\n{who}\nThe refresh token is in {shown}; only its owner can read it.\n\nNext: service.refresh_token_file = \"{shown}\". A running `upwarden serve` takes it within a minute, unless it has\none that works. From then on the store has the token, and the file is of no use to anybody."
    )
}

/// Where it does not open, the address above does.
fn open_browser(location: &str) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let _ = Command::new(opener).arg(location).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
}
