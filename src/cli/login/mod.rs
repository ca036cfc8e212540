//! `upwarden login`: connects the service identity from a terminal, and writes a file with a refresh token, which a running
//! `serve` imports.
//!
//! The browser returns to `service.redirect_uri` on this machine; if it cannot, the user pastes its final address. A
//! code is redeemed only with the state that was generated here (RFC 8252 section 7.3).

mod file;
mod redirect;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use http::StatusCode;
use tokio::runtime::Handle;
use tokio::time::Instant;

pub(super) use self::file::write as write_private;
use self::redirect::Redirects;
use super::args::LoginArguments;
use super::output::{Failure, print, print_error};
use super::runtime::block_on;
use crate::clock::{SharedClock, SystemClock};
use crate::config::{Config, Sources};
use crate::descriptors::Descriptors;
use crate::oauth::callback::{Authorization, Callback, CallbackError, VerifiedCode};
use crate::oauth::login::{AuthorizationRequest, LIFETIME, Login};
use crate::oauth::login_cookies::{BrowserLogins, PendingLogin};
use crate::oauth::token::TokenGrant;
use crate::oauth::upwork::Upwork;
use crate::oauth::{self, Grant, ServiceGrant};
use crate::pacing::{CallerId, Pace, Pacer};
use crate::router::ReturnTo;
use crate::seal::Keyring;
use crate::telemetry::metrics::Metrics;

pub(super) fn login(arguments: LoginArguments) -> Result<(), Failure> {
    let LoginArguments { out, force, no_browser, config } = arguments;
    let (config, sources) = config.load()?;
    let Some(out) = out.or_else(|| configured(&config)) else {
        let text = "name a file for the refresh token with --out FILE, or in service.refresh_token_file";
        return Err(Failure::Usage(text.to_owned()));
    };
    let login = client(&config).and_then(|client| {
        file::check(&out, force)?;
        Attempt::begin(client)
    });
    let login = login.map_err(|why| failure(&why))?;
    block_on(login.run(!no_browser && has_screen(&sources), &out, force))
}

fn failure(why: &str) -> Failure {
    Failure::Other(format!("upwarden login: {why}"))
}

fn configured(config: &Config) -> Option<PathBuf> {
    match &config.service.as_ref()?.grant {
        ServiceGrant::RefreshToken { file } => file.clone(),
        ServiceGrant::ClientCredentials => None,
    }
}

/// The service identity's client, as a client for sign-ins.
fn client(config: &Config) -> Result<oauth::Config, String> {
    let service = config
        .service
        .clone()
        .ok_or("there is no service identity to connect; set service.grant = \"refresh_token\" and a store for it")?;
    if service.grant == ServiceGrant::ClientCredentials {
        return Err(
            "service.grant = \"client_credentials\" needs no login; set \"refresh_token\" to act as a user".to_owned()
        );
    }
    let redirect_uri = service.redirect_uri.ok_or(
        "service.redirect_uri is not set; register http://127.0.0.1:4189/callback for the API key, and set it to that",
    )?;
    Ok(oauth::Config {
        client_id: service.client_id,
        client_secret: service.client_secret,
        grant: Grant::Code,
        redirect_uri,
        ..config.oauth.clone()
    })
}

/// True on a machine with a screen, unless it is used over SSH.
fn has_screen(sources: &Sources) -> bool {
    let set = |name: &str| sources.env.iter().any(|(variable, value)| variable == name && !value.is_empty());
    (set("DISPLAY") || set("WAYLAND_DISPLAY") || cfg!(target_os = "macos")) && !set("SSH_CONNECTION")
}

struct Attempt {
    client: oauth::Config,
    ring: Keyring,
    request: AuthorizationRequest,
    clock: SharedClock,
}

impl Attempt {
    fn begin(client: oauth::Config) -> Result<Self, String> {
        let clock: SharedClock = Arc::new(SystemClock);
        let ring = Keyring::generate().map_err(|error| error.to_string())?;
        let request = Login::begin(&client, &ring, &ReturnTo::home(), 0, clock.now());
        let request = request.map_err(|error| error.to_string())?;
        Ok(Self { client, ring, request, clock })
    }

    /// Waits for the redirect of this sign-in, and writes the refresh token to `out`.
    async fn run(self, opens_browser: bool, out: &Path, force: bool) -> Result<(), Failure> {
        let mut redirects = Redirects::listen(&self.client.redirect_uri).await.map_err(|why| failure(&why))?;
        print(&invitation(&self.request.url, &self.client.redirect_uri, redirects.listens()))?;
        if opens_browser {
            open_browser(&self.request.url);
        }
        let deadline = Instant::now() + LIFETIME;
        loop {
            let redirect = tokio::time::timeout_at(deadline, redirects.next()).await;
            let redirect = redirect.unwrap_or(Err("the browser did not return within ten minutes; run it again"));
            let redirect = redirect.map_err(failure)?;
            let Some(code) = self.verify(redirect.query()) else {
                let text = "This address does not belong to the sign-in that upwarden is waiting for, or a part of it is missing.";
                redirect.respond(StatusCode::BAD_REQUEST, "Not this sign-in", text);
                print_error("that address does not belong to this sign-in, or is incomplete; paste all of it");
                continue;
            };
            let outcome = match code {
                Ok(code) => self.redeem(&code, out, force).await,
                Err(why) => Err(why),
            };
            match &outcome {
                Ok(_) => redirect.respond(StatusCode::OK, "Connected", "Close this window and return to the terminal."),
                Err(why) => redirect.respond(StatusCode::BAD_REQUEST, "Not connected", &format!("{why}.")),
            }
            redirects.close().await;
            return print(&outcome.map_err(|why| failure(&why))?);
        }
    }

    /// The code of this sign-in, or why there is none; `None` if the redirect belongs to another sign-in or is
    /// incomplete, so that the right one may still arrive.
    fn verify(&self, query: &str) -> Option<Result<VerifiedCode, String>> {
        let now = self.clock.now();
        let login = Login::open(&self.ring, &self.request.cookie, now).map(|login| PendingLogin { slot: 0, login });
        let browser = BrowserLogins { pending: login.into_iter().collect(), any_cookie: true };
        let callback = Callback::parse(query).ok()?;
        let state = callback.state(&self.ring);
        let verified = callback.verify(state.as_ref(), &browser, self.client.issuer.as_deref(), now).ok()?;
        match verified.outcome {
            Ok(Authorization::Code(code)) => Some(Ok(code)),
            Ok(Authorization::Token(_)) => Some(Err("Upwork returned a token instead of a code".to_owned())),
            Err(error @ (CallbackError::Denied(_) | CallbackError::WrongIssuer(_) | CallbackError::Invalid(_))) => {
                Some(Err(format!("Upwork did not grant access: {error}")))
            }
            Err(
                CallbackError::Malformed
                | CallbackError::BadState(_)
                | CallbackError::DeniedWithoutState(_)
                | CallbackError::NoCode,
            ) => None,
        }
    }

    async fn redeem(&self, code: &VerifiedCode, out: &Path, force: bool) -> Result<String, String> {
        let pacer = Pacer::new(&Pace::default(), self.clock.clone(), Arc::new(Metrics::new()), Handle::current());
        let descriptors = Descriptors::new(None);
        let upwork = Upwork::new(self.client.clone(), self.clock.clone(), Handle::current(), pacer, descriptors);
        let tokens =
            upwork.tokens(TokenGrant::Code(code), CallerId::SignIn(None)).await.map_err(|error| error.to_string())?;
        let refresh = tokens.refresh.as_ref().ok_or("Upwork returned no refresh token")?;
        let user = upwork.user_info(&tokens.access, CallerId::SignIn(None)).await.ok().map(|info| info.user);
        file::write(out, refresh.expose(), force)?;
        let user = user.map(|user| format!(" as {} (id {})", user.nid, user.id)).unwrap_or_default();
        let path = out.display();
        Ok(format!(
            "\nConnected{user}.\nThe refresh token is in {path}; only its owner can read it.\n\nNext: set \
             service.refresh_token_file = \"{path}\". A running `upwarden serve` imports it within a minute, unless it\nhas a \
             working token. After that the store has the current token, and the file is not needed any more."
        ))
    }
}

fn invitation(url: &str, redirect_uri: &str, listens: bool) -> String {
    let next = if listens {
        format!(
            "Waiting for the browser at {redirect_uri}.\nIf the browser is on another machine, it ends on a page that cannot be loaded: paste the address of that page here."
        )
    } else {
        format!("The browser then ends on {redirect_uri}?…: paste that whole address here.")
    };
    format!("Open this address in a browser, and sign in as the user that the service will act as:\n\n{url}\n\n{next}")
}

/// If no browser opens, the user can use the printed address.
fn open_browser(url: &str) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let _ = Command::new(opener).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
}
