use std::net::SocketAddr;

use super::check::{self, Config};
use super::file;
use super::problem::{Problems, Source};
use super::raw::RawConfig;
use super::reader::Reader;
use super::sources::Sources;

/// Reads and checks the configuration.
pub fn load(sources: &Sources) -> Result<Config, Problems> {
    let mut problems = Vec::new();
    let raw = RawConfig::read(sources, &mut problems);
    let mut reader = Reader::new(raw, problems);
    let config = check::config(&mut reader, sources);
    let mut problems = reader.problems;
    if problems.iter().any(|problem| problem.key == file::WHOLE) {
        // A missing key may be in the file that could not be read.
        problems.retain(|problem| !matches!(problem.source, Source::Missing { .. } | Source::Default));
    }
    config.filter(|_| problems.is_empty()).ok_or_else(|| Problems::never_empty(problems))
}

/// `admin.listen` alone, whatever else is wrong or missing: for commands that only call a running upwarden.
pub(crate) fn admin_address(sources: &Sources) -> Result<SocketAddr, Problems> {
    let mut problems = Vec::new();
    let raw = RawConfig::read(sources, &mut problems);
    // An unreadable file may set another address; other problems do not matter here.
    problems.retain(|problem| problem.key == file::WHOLE);
    let mut reader = Reader::new(raw, problems);
    let address = check::admin(&mut reader);
    address.filter(|_| reader.problems.is_empty()).ok_or_else(|| Problems::never_empty(reader.problems))
}
