//! What the gateway itself needs to know.

use super::app::Site;
use super::doors::Doors;
use crate::config::parse;
use crate::config::reader::Reader;
use crate::gateway;

pub(super) fn gateway(reader: &mut Reader, site: Option<&Site>, doors: Option<&Doors>) -> Option<gateway::Config> {
    let preflight_pass = reader.parsed("app.preflight", |text| parse::choice(text, &[("gate", false), ("pass", true)]));
    let tickets = reader.switch("app.tickets");
    let trusted_proxies = reader.parsed_list("public.trusted_proxies", parse::network);
    let public_read_only = reader.switch("public.read_only");
    let neighbour_read_only = reader.switch("neighbour.read_only");
    let sign_ins_per_address = reader.count("public.limits.sign_ins_per_address", 1_000_000);
    let doors = doors?;
    Some(gateway::Config {
        public_url: site?.public_url.clone(),
        preflight_pass: preflight_pass?,
        tickets: tickets?,
        trusted_proxies: trusted_proxies?,
        public_read_only: public_read_only?,
        neighbour_read_only: neighbour_read_only?,
        neighbour_hosts: doors.neighbour.hosts.clone(),
        neighbour_secret: doors.neighbour.secret.clone(),
        neighbour_address: doors.neighbour.address.as_ref().map(ToString::to_string),
        sign_ins_per_address: sign_ins_per_address?,
        requests_per_address: doors.limits.connections_per_address,
    })
}
