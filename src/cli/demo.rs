//! `upwarden demo`: the sandbox, a sample app or the user's own, and the sidecar in one process, without keys or
//! configuration.
//!
//! Prints what was started, what to open and what to paste. Stores nothing.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::args::DemoArguments;
use super::output::{Failure, print};
use super::runtime::{address, block_on, listener, until_signal};
use super::sandbox::{reached, urls};
use super::serve::run_server;
use crate::clock::SystemClock;
use crate::config::{self, Config, Sources};
use crate::listener::Bound;
use crate::pages::curl::{Neighbour, at_neighbour};
use crate::sample_app::{self, SampleApp};
use crate::sandbox::{self, Sandbox};
use crate::seal::{Key, random};
use crate::server::Doors;
use crate::telemetry;

const SANDBOX_PORT: u16 = 4183;
/// How many ports to try after one that is taken.
const TRIES: u16 = 100;

struct Sockets {
    public: TcpListener,
    neighbour: TcpListener,
    admin: TcpListener,
    sandbox: TcpListener,
    control: TcpListener,
    app: TcpListener,
    /// A line for each taken port.
    moved: Vec<String>,
}

pub(super) fn demo(wanted: &DemoArguments) -> Result<(), Failure> {
    stays_here("--public", wanted.public, true)?;
    wanted.sandbox.map_or(Ok(()), |sandbox| stays_here("--sandbox", sandbox, true))?;
    stays_here("--neighbour", wanted.neighbour, false)?;
    let sockets = Sockets::bind(wanted)?;
    let places = Places::of(&sockets, &Sources::of_process(None, Vec::new()).env)?;
    let config = configuration(&sockets, &places, wanted.app.as_deref())?;
    telemetry::start(config.telemetry);
    block_on(until_signal(|shutdown| async {
        print(&greeting(&sockets, &places, wanted.app.as_deref())?)?;
        Box::pin(run(config, sockets, wanted.app.is_none(), shutdown)).await
    }))
}

/// The demo speaks plain http and admits anyone, so only this machine may reach it. `everywhere`: the door may also
/// listen on every interface, as in a container.
fn stays_here(flag: &str, wanted: SocketAddr, everywhere: bool) -> Result<(), Failure> {
    let ip = wanted.ip();
    if ip.is_loopback() || (everywhere && ip.is_unspecified()) {
        return Ok(());
    }
    let port = wanted.port();
    let also = if everywhere { format!(", or 0.0.0.0:{port} to listen on every interface") } else { String::new() };
    Err(Failure::Usage(format!(
        "{flag} {wanted}: the demo speaks plain http and admits anyone, so it only listens on this machine. Write \
         127.0.0.1:{port}{also}."
    )))
}

async fn run(config: Config, sockets: Sockets, sample: bool, shutdown: CancellationToken) -> Result<(), Failure> {
    let neighbour = format!("http://{}", address(&sockets.neighbour)?);
    let client = sandbox::Client {
        id: config.oauth.client_id.clone(),
        secret: config.oauth.client_secret.load(),
        redirect_uri: config.oauth.redirect_uri.clone(),
    };
    // Beyond loopback the sandbox has to know the redirect URI; on loopback, other apps may use it as well.
    let clients = if config.session.secure { vec![client] } else { Vec::new() };
    let sandbox = Sandbox::new(sandbox::Config { clients, ..sandbox::Config::default() }, Arc::new(SystemClock));
    let app = SampleApp::new(sample_app::Config { prefix: "/upwork".to_owned(), neighbour: Some(neighbour) });
    // The sandbox and the app must outlive the sidecar's drain.
    let ended = CancellationToken::new();
    let _ended = ended.clone().drop_guard();
    let (sandbox_door, control_door) = (listener(sockets.sandbox)?, listener(sockets.control)?);
    tokio::spawn(sandbox::run(sandbox, sandbox_door, control_door, ended.clone()));
    if sample {
        tokio::spawn(sample_app::run(app, listener(sockets.app)?, ended.clone()));
    }
    let doors = Doors {
        public: Bound::from(sockets.public),
        neighbour: Some(Bound::from(sockets.neighbour)),
        admin: Bound::from(sockets.admin),
    };
    run_server(config, doors, None, shutdown).await
}

/// Where browsers find the public door and the sandbox.
#[derive(Debug, PartialEq, Eq)]
struct Places {
    public: String,
    sandbox: String,
    /// A proxy in front has a different address, and sends it in `X-Forwarded-*`.
    forwarded: bool,
}

impl Places {
    fn of(sockets: &Sockets, env: &[(String, String)]) -> Result<Self, Failure> {
        Ok(Self::at(address(&sockets.public)?, address(&sockets.sandbox)?, env))
    }

    /// For a door on every interface: localhost, where a container's ports are published, or the forwarded addresses of
    /// a GitHub Codespace.
    fn at(public: SocketAddr, sandbox: SocketAddr, env: &[(String, String)]) -> Self {
        let variable = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let codespace = variable("CODESPACE_NAME").zip(variable("GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN"));
        if let Some((name, domain)) = codespace.filter(|_| public.ip().is_unspecified()) {
            let at = |port: u16| format!("https://{name}-{port}.{domain}");
            return Self { public: at(public.port()), sandbox: at(sandbox.port()), forwarded: true };
        }
        let at = |address| format!("http://{}", reached(address));
        Self { public: at(public), sandbox: at(sandbox), forwarded: false }
    }
}

/// The configuration that a user would write for this, read and checked like any other.
fn configuration(sockets: &Sockets, places: &Places, app: Option<&str>) -> Result<Config, Failure> {
    let sandbox = format!("http://{}", loopback(address(&sockets.sandbox)?));
    let hex = || random().map(u128::from_ne_bytes).map(|number| format!("{number:032x}")).map_err(Failure::other);
    let (app, routes) = match app {
        Some(app) => (app.to_owned(), "[]"),
        None => (format!("http://{}", address(&sockets.app)?), r#"[{"path":"/health","public":true}]"#),
    };
    let settings = [
        ("public_url", places.public.clone()),
        ("public.listen", address(&sockets.public)?.to_string()),
        ("public.trusted_proxies", if places.forwarded { "127.0.0.0/8,::1" } else { "[]" }.to_owned()),
        ("neighbour.listen", address(&sockets.neighbour)?.to_string()),
        ("admin.listen", address(&sockets.admin)?.to_string()),
        ("app.url", app),
        ("routes", routes.to_owned()),
        ("app.tickets", "true".to_owned()),
        ("upwork.client_id", hex()?),
        ("upwork.client_secret", hex()?),
        ("service.grant", "client_credentials".to_owned()),
        ("session.keys", Key::generate().map_err(Failure::other)?.expose().to_owned()),
        ("access.anyone", "true".to_owned()),
        ("log.level", "warn".to_owned()),
        ("drain.delay", "0s".to_owned()),
        // What the smallest usual limit on open files allows. With more, the demo would start with a warning.
        ("public.limits.connections", "90".to_owned()),
    ];
    let settings = settings.into_iter().chain(urls(&places.sandbox, &sandbox));
    let sets = settings.map(|(key, value)| format!("{key}={value}")).collect();
    let sources = Sources { sets, terminal: true, ..Sources::default() };
    config::load(&sources).map_err(Failure::Config)
}

fn greeting(sockets: &Sockets, places: &Places, app: Option<&str>) -> Result<String, Failure> {
    let open = if address(&sockets.public)?.ip().is_unspecified() {
        "\nEveryone who reaches the public door can sign in, as one of the sandbox's users.\n"
    } else {
        ""
    };
    let (label, own) = match app {
        None => ("sample app, behind upwarden", String::new()),
        Some(app) => ("your app, behind upwarden", format!("\n  {:<30}{app}", "your app itself")),
    };
    let [graphql, rest] = at_neighbour(Neighbour::Tcp(&address(&sockets.neighbour)?.to_string()), "/upwork", false);
    let moved = sockets.moved.concat();
    Ok(format!(
        "upwarden demo: everything runs in this process. Nothing is stored, and nothing leaves this machine.
{moved}
  {label:<30}{}/     <- open this in a browser{own}
  neighbour door                http://{}/upwork/…
  health and metrics            http://{}/readyz
  sandbox (not the real Upwork) {}/, its faults and counters at http://{}/
{open}
Call the API from a local program, without any OAuth:

{graphql}

{rest}

Press Ctrl-C to stop.",
        places.public,
        address(&sockets.neighbour)?,
        address(&sockets.admin)?,
        places.sandbox,
        address(&sockets.control)?,
    ))
}

impl Sockets {
    fn bind(wanted: &DemoArguments) -> Result<Self, Failure> {
        let mut moved = Vec::new();
        let mut one = |name: &str, wanted: SocketAddr| -> Result<TcpListener, Failure> {
            let listener = next_free(wanted)
                .ok_or_else(|| Failure::Other(format!("there is no free port for the {name} from {wanted} on")))?;
            let at = address(&listener)?;
            if wanted.port() != 0 && at != wanted {
                moved.push(format!("  ({wanted} is taken, so the {name} is at {at})\n"));
            }
            Ok(listener)
        };
        let everywhere = wanted.public.ip().is_unspecified();
        let loopback = SocketAddr::from(([127, 0, 0, 1], SANDBOX_PORT));
        let near = if everywhere { SocketAddr::new(wanted.public.ip(), SANDBOX_PORT) } else { loopback };
        let wanted_sandbox = wanted.sandbox.unwrap_or(near);
        let sandbox = one("sandbox", wanted_sandbox)?;
        // Any program that reaches it can make the sandbox fail.
        let port = if wanted_sandbox.port() == 0 { 0 } else { address(&sandbox)?.port().saturating_add(1) };
        let control = self::loopback(SocketAddr::new(wanted_sandbox.ip(), port));
        Ok(Self {
            public: one("app", wanted.public)?,
            neighbour: one("neighbour door", wanted.neighbour)?,
            admin: one("admin door", wanted.admin)?,
            control: one("sandbox's control door", control)?,
            app: one("sample app", SocketAddr::from(([127, 0, 0, 1], 0)))?,
            sandbox,
            moved,
        })
    }
}

/// The same port on loopback, for a listener on every interface.
fn loopback(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], address.port())) } else { address }
}

fn next_free(wanted: SocketAddr) -> Option<TcpListener> {
    (0..TRIES).find_map(|step| {
        let port = if wanted.port() == 0 { 0 } else { wanted.port().checked_add(step)? };
        TcpListener::bind(SocketAddr::new(wanted.ip(), port)).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_find_it_in_a_container_and_in_a_codespace() {
        let at = |public: &str, env: &[(&str, &str)]| {
            let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let Places { public, sandbox, forwarded } =
                Places::at(public.parse().unwrap(), "0.0.0.0:4183".parse().unwrap(), &env);
            (public, sandbox, forwarded)
        };
        let codespace =
            [("CODESPACE_NAME", "glad-owl"), ("GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN", "app.github.dev")];
        let of = |public: &str, sandbox: &str, forwarded| (public.to_owned(), sandbox.to_owned(), forwarded);
        let local = "http://localhost:4183";
        assert_eq!(at("0.0.0.0:4180", &[]), of("http://localhost:4180", local, false));
        assert_eq!(at("[::]:4180", &[]), of("http://localhost:4180", local, false));
        assert_eq!(at("127.0.0.1:4180", &codespace), of("http://127.0.0.1:4180", local, false));
        let forwarded = of("https://glad-owl-4180.app.github.dev", "https://glad-owl-4183.app.github.dev", true);
        assert_eq!(at("0.0.0.0:4180", &codespace), forwarded);
    }
}
