//! `upwarden demo`: the sandbox, a sample app and the sidecar in one process, without keys or configuration.
//!
//! It prints what was started, what to open and what to paste, and stores nothing.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::args::DemoArguments;
use super::output::{Failure, print};
use super::runtime::{address, block_on, listener, until_signal};
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

/// How many ports are tried after a taken one.
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
    let sockets = Sockets::bind(wanted)?;
    let config = configuration(&sockets)?;
    telemetry::start(config.telemetry);
    block_on(until_signal(|shutdown| async {
        print(&greeting(&sockets)?)?;
        run(config, sockets, shutdown).await
    }))
}

async fn run(config: Config, sockets: Sockets, shutdown: CancellationToken) -> Result<(), Failure> {
    let neighbour = format!("http://{}", address(&sockets.neighbour)?);
    let sandbox = Sandbox::new(sandbox::Config::default(), Arc::new(SystemClock));
    let app = SampleApp::new(sample_app::Config { prefix: "/upwork".to_owned(), neighbour: Some(neighbour) });
    // The sandbox and the app outlive the sidecar's drain.
    let ended = CancellationToken::new();
    let _ended = ended.clone().drop_guard();
    let (sandbox_door, control_door) = (listener(sockets.sandbox)?, listener(sockets.control)?);
    tokio::spawn(sandbox::run(sandbox, sandbox_door, control_door, ended.clone()));
    tokio::spawn(sample_app::run(app, listener(sockets.app)?, ended.clone()));
    let doors = Doors {
        public: Bound::from(sockets.public),
        neighbour: Some(Bound::from(sockets.neighbour)),
        admin: Bound::from(sockets.admin),
    };
    run_server(config, doors, None, shutdown).await
}

/// The configuration that a user would write for this, read and checked like any other.
fn configuration(sockets: &Sockets) -> Result<Config, Failure> {
    let sandbox = format!("http://{}", address(&sockets.sandbox)?);
    let hex = || random().map(u128::from_ne_bytes).map(|number| format!("{number:032x}")).map_err(Failure::other);
    let settings = [
        ("public_url", format!("http://{}", address(&sockets.public)?)),
        ("public.listen", address(&sockets.public)?.to_string()),
        ("neighbour.listen", address(&sockets.neighbour)?.to_string()),
        ("admin.listen", address(&sockets.admin)?.to_string()),
        ("app.url", format!("http://{}", address(&sockets.app)?)),
        ("app.public_paths", "/health".to_owned()),
        ("app.tickets", "true".to_owned()),
        ("upwork.client_id", hex()?),
        ("upwork.client_secret", hex()?),
        ("upwork.authorize_url", format!("{sandbox}{}", sandbox::AUTHORIZE_PATH)),
        ("upwork.token_url", format!("{sandbox}{}", sandbox::TOKEN_PATH)),
        ("upwork.revoke_url", format!("{sandbox}{}", sandbox::REVOKE_PATH)),
        ("upwork.graphql_url", format!("{sandbox}{}", sandbox::GRAPHQL_PATH)),
        ("upwork.api_url", sandbox),
        ("service.grant", "client_credentials".to_owned()),
        ("session.keys", Key::generate().map_err(Failure::other)?.expose().to_owned()),
        ("access.anyone", "true".to_owned()),
        ("log.level", "warn".to_owned()),
        ("drain.delay", "0s".to_owned()),
        // What the smallest usual limit of open files allows; with more, the demo would begin with a warning.
        ("public.limits.connections", "90".to_owned()),
    ];
    let sets = settings.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let sources = Sources { sets, terminal: true, ..Sources::default() };
    config::load(&sources).map_err(Failure::Config)
}

fn greeting(sockets: &Sockets) -> Result<String, Failure> {
    let public = address(&sockets.public)?;
    let [graphql, rest] = at_neighbour(Neighbour::Tcp(&address(&sockets.neighbour)?.to_string()), "/upwork", false);
    let moved = sockets.moved.concat();
    Ok(format!(
        "upwarden demo: everything runs in this process. Nothing is stored, and nothing leaves this machine.
{moved}
  sample app, behind upwarden   http://{public}/     <- open this in a browser
  neighbour door                http://{}/upwork/…
  health and metrics            http://{}/readyz
  sandbox (not the real Upwork) http://{}/, its faults and counters at http://{}/

Call the API from a local program, without any OAuth:

{graphql}

{rest}

Press Ctrl-C to stop.",
        address(&sockets.neighbour)?,
        address(&sockets.admin)?,
        address(&sockets.sandbox)?,
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
        let sandbox = one("sandbox", wanted.sandbox)?;
        let mut control = wanted.sandbox;
        if control.port() != 0 {
            control.set_port(address(&sandbox)?.port().saturating_add(1));
        }
        Ok(Self {
            public: one("sample app", wanted.public)?,
            neighbour: one("neighbour door", wanted.neighbour)?,
            admin: one("admin door", wanted.admin)?,
            control: one("sandbox's control door", control)?,
            app: one("app itself", SocketAddr::from(([127, 0, 0, 1], 0)))?,
            sandbox,
            moved,
        })
    }
}

/// The address itself, or the next free port.
fn next_free(wanted: SocketAddr) -> Option<TcpListener> {
    (0..TRIES).find_map(|step| {
        let port = if wanted.port() == 0 { 0 } else { wanted.port().checked_add(step)? };
        TcpListener::bind(SocketAddr::new(wanted.ip(), port)).ok()
    })
}
