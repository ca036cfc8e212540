//! From the configuration as written to the one in force: each module's own part, with all rules checked.
//!
//! Each part first reads all of its keys and only then gives up, so that no problem hides another.

mod access;
mod app;
mod doors;
mod gateway;
mod store;
mod upwork;

use std::num::NonZero;
use std::time::Duration;

use tracing_subscriber::filter::LevelFilter;

pub(super) use self::doors::admin;
use super::parse::{self, ValueError};
use super::reader::Reader;
use super::session_keys::SessionKeys;
use super::sources::Sources;
use crate::listener::{Address, Limits};
use crate::tls::CertificateFiles;
use crate::{broker, oauth, policy, proxy, router, session, telemetry};

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) server: Server,
    /// Read again on every reload.
    pub(crate) keys: SessionKeys,
    pub(crate) router: router::Config,
    pub(crate) session: session::Config,
    pub(crate) store: crate::store::Config,
    pub(crate) access: policy::Access,
    pub(crate) oauth: oauth::Config,
    pub(crate) service: Option<oauth::ServiceConfig>,
    pub(crate) broker: broker::Config,
    pub(crate) app: proxy::AppConfig,
    pub(crate) gateway: crate::gateway::Config,
    pub(crate) telemetry: telemetry::Config,
}

/// The server's own part.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) public: Address,
    /// Certificates of the public door; empty for plain HTTP.
    pub(crate) certificates: Vec<CertificateFiles>,
    /// HTTP/2 with prior knowledge on the plain public door.
    pub(crate) h2c: bool,
    pub(crate) neighbour: Option<Address>,
    pub(crate) admin: Address,
    pub(crate) workers: usize,
    /// Limits and timeouts of the public door.
    pub(crate) limits: Limits,
    /// After SIGTERM the doors serve this much longer.
    pub(crate) drain_delay: Duration,
    /// Then requests in flight have this long to finish.
    pub(crate) drain_timeout: Duration,
}

/// Checks everything.
pub(super) fn config(reader: &mut Reader, sources: &Sources) -> Option<Config> {
    let site = app::site(reader);
    let app = app::app(reader);
    let router = app::router(reader, site.as_ref());
    let doors = doors::doors(reader, site.as_ref());
    let gateway = gateway::gateway(reader, site.as_ref(), doors.as_ref());
    let access = access::access(reader);
    let oauth = upwork::oauth(reader, site.as_ref(), access.as_ref(), &sources.env);
    let broker = upwork::broker(reader, oauth.as_ref());
    let keys = access::keys(reader);
    let session = access::session(reader, site.as_ref());
    let store = store::store(reader);
    let service = upwork::service(reader, oauth.as_ref(), store.as_ref());
    let telemetry = telemetry(reader, sources.terminal);
    let workers = workers(reader);
    let drain_delay = reader.parsed("drain.delay", drain_delay);
    let drain_timeout = reader.parsed("drain.timeout", parse::duration);

    if let (Some(app), Some(doors)) = (&app, &doors) {
        doors::apart_from_app(reader, &app.upstream, doors);
    }
    let doors = doors?;
    Some(Config {
        server: Server {
            public: doors.public,
            certificates: doors.certificates,
            h2c: doors.h2c,
            neighbour: doors.neighbour.address,
            admin: doors.admin,
            workers: workers?,
            limits: doors.limits,
            drain_delay: drain_delay?,
            drain_timeout: drain_timeout?,
        },
        keys: keys?,
        router: router?,
        session: session?,
        store: store?,
        access: access?,
        oauth: oauth?,
        service,
        broker: broker?,
        app: app?,
        gateway: gateway?,
        telemetry: telemetry?,
    })
}

fn workers(reader: &mut Reader) -> Option<usize> {
    if reader.given("workers") {
        return reader.count("workers", 256);
    }
    // What the cgroup's quota and the CPU mask leave us.
    Some(std::thread::available_parallelism().map_or(1, NonZero::get).min(4))
}

fn telemetry(reader: &mut Reader, terminal: bool) -> Option<telemetry::Config> {
    use telemetry::Format::{Json, Text};
    let format = reader.parsed("log.format", |text| parse::choice(text, &[("text", Text), ("json", Json)]));
    let level = reader.parsed("log.level", |text| {
        let levels = [
            ("error", LevelFilter::ERROR),
            ("warn", LevelFilter::WARN),
            ("info", LevelFilter::INFO),
            ("debug", LevelFilter::DEBUG),
            ("trace", LevelFilter::TRACE),
        ];
        parse::choice(text, &levels)
    });
    let default = if terminal { Text } else { Json };
    Some(telemetry::Config { format: format.unwrap_or(default), level: level? })
}

/// `upwarden drain` waits for the end of the delay, at most an hour.
fn drain_delay(text: &str) -> Result<Duration, ValueError> {
    let delay = parse::duration(text)?;
    if delay > Duration::from_hours(1) {
        return Err(ValueError::new("is longer than an hour", "write 1h or less; a few seconds are usual"));
    }
    Ok(delay)
}
