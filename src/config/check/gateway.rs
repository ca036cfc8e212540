//! What the gateway itself needs to know.

use super::app::Site;
use super::doors::Doors;
use crate::config::parse;
use crate::config::reader::Reader;
use crate::gateway::{Config, NeighbourConfig, PublicConfig};

pub(super) fn gateway(reader: &mut Reader, site: Option<&Site>, doors: Option<&Doors>) -> Option<Config> {
    let preflight_pass = reader.parsed("app.preflight", |text| parse::choice(text, &[("gate", false), ("pass", true)]));
    let tickets = reader.switch("app.tickets");
    let trusted_proxies = reader.parsed_list("public.trusted_proxies", parse::network);
    let public_read_only = reader.switch("public.read_only");
    let neighbour_read_only = reader.switch("neighbour.read_only");
    let sign_ins_per_address = reader.count("public.limits.sign_ins_per_address", 1_000_000);
    let doors = doors?;
    let public = PublicConfig {
        url: site?.public_url.clone(),
        trusted_proxies: trusted_proxies?,
        preflight_pass: preflight_pass?,
        read_only: public_read_only?,
        sign_ins_per_address: sign_ins_per_address?,
        requests_per_address: doors.limits.connections_per_address,
    };
    let neighbour = NeighbourConfig {
        read_only: neighbour_read_only?,
        hosts: doors.neighbour.hosts.clone(),
        secret: doors.neighbour.secret.clone(),
        address: doors.neighbour.address.as_ref().map(ToString::to_string),
    };
    Some(Config { public, neighbour, tickets: tickets? })
}
