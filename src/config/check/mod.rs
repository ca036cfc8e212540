//! Written → meant: from keys and texts to each room's own configuration.
//!
//! In: the reader and what the process knows. Out: the whole [`Config`], or `None` with every problem in the reader.
//! Each part first reads all of its keys and only then gives up, so that no problem hides another.

mod access;
mod app;
mod doors;
mod upwork;

use tracing_subscriber::filter::LevelFilter;

use super::reader::Reader;
use super::values::{self, Bad};
use super::{Config, Server, Sources};
use crate::telemetry;

/// Checks everything.
pub(super) fn all(reader: &mut Reader, sources: &Sources) -> Option<Config> {
    let site = app::site(reader);
    let app = app::app(reader);
    let router = app::router(reader, site.as_ref());
    let doors = doors::doors(reader, site.as_ref());
    let preflight = app::preflight(reader);
    let tickets = reader.switch("app.tickets");
    let access = access::access(reader);
    let oauth = upwork::oauth(reader, site.as_ref(), access.as_ref(), &sources.env);
    let broker = upwork::broker(reader, oauth.as_ref());
    let keys = access::keys(reader);
    let session = access::session(reader, site.as_ref());
    let store = access::store(reader);
    let service = upwork::service(reader, oauth.as_ref(), store.as_ref());
    let telemetry = logs(reader, sources.terminal);
    let workers = workers(reader);
    let drain_delay = reader.parsed("drain.delay", drain_delay);
    let drain_timeout = reader.parsed("drain.timeout", values::duration);

    if let (Some(app), Some(doors)) = (&app, &doors) {
        doors::apart_from_app(reader, &app.upstream, doors);
    }
    let (site, doors) = (site?, doors?);
    Some(Config {
        server: Server {
            public: doors.public,
            certificates: doors.certificates,
            h2c: doors.h2c,
            neighbour: doors.neighbour,
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
        gateway: crate::gateway::Config {
            public_url: site.public_url,
            preflight_pass: preflight?,
            tickets: tickets?,
            ..doors.gateway
        },
        telemetry: telemetry?,
    })
}

/// Where the admin door listens, whatever else may be wrong.
pub(super) fn admin(reader: &mut Reader) -> Option<std::net::SocketAddr> {
    reader.parsed("admin.listen", values::socket)
}

fn workers(reader: &mut Reader) -> Option<usize> {
    if reader.given("workers") {
        return reader.count("workers", 256);
    }
    #[cfg(test)]
    reader.asked.insert("workers".to_owned());
    // What the cgroup's quota and the CPU mask leave us.
    Some(std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4))
}

fn logs(reader: &mut Reader, terminal: bool) -> Option<telemetry::Config> {
    use telemetry::Format::{Json, Text};
    let format = reader.parsed("log.format", |text| values::choice(text, &[("text", Text), ("json", Json)]));
    let default = if terminal { Text } else { Json };
    let level = reader.parsed("log.level", |text| {
        let levels = [
            ("error", LevelFilter::ERROR),
            ("warn", LevelFilter::WARN),
            ("info", LevelFilter::INFO),
            ("debug", LevelFilter::DEBUG),
            ("trace", LevelFilter::TRACE),
        ];
        values::choice(text, &levels)
    });
    Some(telemetry::Config { format: format.unwrap_or(default), level: level? })
}

/// `upwarden drain` waits for its end, and no longer than an hour.
fn drain_delay(text: &str) -> Result<std::time::Duration, Bad> {
    let delay = values::duration(text)?;
    if delay > std::time::Duration::from_hours(1) {
        return Err(Bad::new("is longer than an hour", "write 1h or less; a few seconds let endpoints go"));
    }
    Ok(delay)
}

/// Refuses a text that is not made of these bytes only.
fn only(text: &str, allowed: impl Fn(u8) -> bool, why: &str, remedy: &str) -> Result<String, Bad> {
    if text.bytes().all(allowed) { Ok(text.to_owned()) } else { Err(Bad::new(why, remedy)) }
}
