//! `upwarden demo`: the sandbox, a sample app and the sidecar in one process, without a key or a configuration.
//!
//! In: four addresses to try. Out: a few lines that say what was started, where to look, and what to paste. It keeps nothing.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::run::{control, run_server, until_told};
use super::{Failure, answer, failed};
use crate::clock::SystemClock;
use crate::config::{self, Config, Sources};
use crate::listener::Bound;
use crate::pages::curl::{Neighbour, at_neighbour};
use crate::sample_app::{self, SampleApp};
use crate::sandbox::{self, Sandbox};
use crate::seal::{Key, random_id};
use crate::server::Doors;
use crate::telemetry;

/// How many ports after a taken one are tried.
const TRIES: u16 = 100;

/// Where the demo would like to listen.
pub(super) struct Wishes {
    pub(super) public: SocketAddr,
    pub(super) neighbour: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) sandbox: SocketAddr,
}

struct Sockets {
    public: TcpListener,
    neighbour: TcpListener,
    admin: TcpListener,
    sandbox: TcpListener,
    control: TcpListener,
    app: TcpListener,
    moved: Vec<String>,
}

pub(super) fn demo(wishes: &Wishes) -> Result<(), Failure> {
    let sockets = Sockets::bind(wishes)?;
    let config = configuration(&sockets)?;
    telemetry::start(config.telemetry);
    control(until_told(|shutdown| async {
        // Signals are heard by now: whoever reads this may send one.
        answer(&greeting(&sockets)?)?;
        run(config, sockets, shutdown).await
    }))
}

async fn run(config: Config, sockets: Sockets, shutdown: CancellationToken) -> Result<(), Failure> {
    let neighbour = format!("http://{}", address(&sockets.neighbour)?);
    let sandbox = Sandbox::new(sandbox::Config::default(), Arc::new(SystemClock));
    let app = SampleApp::new(sample_app::Config { prefix: "/upwork".to_owned(), neighbour: Some(neighbour) });
    let around = CancellationToken::new();
    let _around = around.clone().drop_guard();
    let (sandbox_door, control_door) = (listener(sockets.sandbox)?, listener(sockets.control)?);
    tokio::spawn(sandbox::run(sandbox, sandbox_door, control_door, around.clone()));
    tokio::spawn(sample_app::run(app, listener(sockets.app)?, around.clone()));
    let doors = Doors {
        public: Bound::from(sockets.public),
        neighbour: Some(Bound::from(sockets.neighbour)),
        admin: Bound::from(sockets.admin),
    };
    run_server(config, doors, None, shutdown).await
}

/// The configuration that somebody would write for this, read and checked like any other.
fn configuration(sockets: &Sockets) -> Result<Config, Failure> {
    let sandbox = format!("http://{}", address(&sockets.sandbox)?);
    let (id, secret) = (random_id().map_err(failed)?, random_id().map_err(failed)?);
    let settings = [
        ("public_url", format!("http://{}", address(&sockets.public)?)),
        ("public.listen", address(&sockets.public)?.to_string()),
        ("neighbour.listen", address(&sockets.neighbour)?.to_string()),
        ("admin.listen", address(&sockets.admin)?.to_string()),
        ("app.url", format!("http://{}", address(&sockets.app)?)),
        ("app.public_paths", "/health".to_owned()),
        ("app.tickets", "true".to_owned()),
        ("upwork.client_id", id),
        ("upwork.client_secret", secret),
        ("upwork.authorize_url", format!("{sandbox}{}", sandbox::AUTHORIZE_PATH)),
        ("upwork.token_url", format!("{sandbox}{}", sandbox::TOKEN_PATH)),
        ("upwork.revoke_url", format!("{sandbox}{}", sandbox::REVOKE_PATH)),
        ("upwork.graphql_url", format!("{sandbox}{}", sandbox::GRAPHQL_PATH)),
        ("upwork.api_url", sandbox),
        ("service.grant", "client_credentials".to_owned()),
        ("session.keys", Key::generate().map_err(failed)?.expose().to_owned()),
        ("access.anyone", "true".to_owned()),
        ("log.level", "warn".to_owned()),
        ("drain.delay", "0s".to_owned()),
        // As many as the fewest descriptors of any system allow; more would begin the demo with a warning.
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
        "upwarden demo: everything runs in this process, nothing is kept, and nothing leaves this machine.
{moved}
  sample app, behind the gate   http://{public}/     <- open this in a browser
  neighbour door                http://{}/upwork/…
  health and metrics            http://{}/readyz
  sandbox (not the real Upwork) http://{}/, its faults and counters at http://{}/

Call the API from next door, without any OAuth:

{graphql}

{rest}

Ctrl-C ends it.",
        address(&sockets.neighbour)?,
        address(&sockets.admin)?,
        address(&sockets.sandbox)?,
        address(&sockets.control)?,
    ))
}

impl Sockets {
    fn bind(wishes: &Wishes) -> Result<Self, Failure> {
        let mut moved = Vec::new();
        let mut one = |name: &str, wish: SocketAddr| -> Result<TcpListener, Failure> {
            let listener =
                next_free(wish).ok_or_else(|| Failure::Other(format!("no free port for the {name} from {wish} on")))?;
            let at = address(&listener)?;
            if wish.port() != 0 && at != wish {
                moved.push(format!("  ({wish} is taken, so the {name} is at {at})\n"));
            }
            Ok(listener)
        };
        let sandbox = one("sandbox", wishes.sandbox)?;
        let after = SocketAddr::new(
            wishes.sandbox.ip(),
            if wishes.sandbox.port() == 0 { 0 } else { address(&sandbox)?.port().saturating_add(1) },
        );
        Ok(Self {
            public: one("sample app", wishes.public)?,
            neighbour: one("neighbour door", wishes.neighbour)?,
            admin: one("admin door", wishes.admin)?,
            control: one("sandbox's control door", after)?,
            app: one("app itself", SocketAddr::from(([127, 0, 0, 1], 0)))?,
            sandbox,
            moved,
        })
    }
}

/// The address itself, or the next port that is free.
fn next_free(wish: SocketAddr) -> Option<TcpListener> {
    (0..TRIES).find_map(|step| {
        let port = if wish.port() == 0 { 0 } else { wish.port().checked_add(step)? };
        TcpListener::bind(SocketAddr::new(wish.ip(), port)).ok()
    })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::Other(format!("a socket has no address: {error}")))
}

fn listener(listener: TcpListener) -> Result<tokio::net::TcpListener, Failure> {
    listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::TcpListener::from_std(listener))
        .map_err(|error| Failure::Other(format!("a socket cannot be used: {error}")))
}
