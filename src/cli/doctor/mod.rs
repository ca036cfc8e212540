//! `upwarden doctor`: checks that everything the configuration refers to exists and answers as it should.
//!
//! It signs no one in, changes nothing, and prints no secret. It calls the app once and Upwork a few times. Among these
//! are calls to the token endpoint: with a refresh token that cannot exist, and as the service identity.

mod certificates;
mod doors;
mod finding;
mod probe;
mod session;
mod upwork;

use std::sync::Arc;

use tokio::runtime::Handle;

use self::finding::{Finding, Level, report};
use super::output::{Failure, print};
use crate::clock::{SharedClock, SystemClock};
use crate::config::Config;

/// Runs every check and prints the findings; a failure if a check failed.
pub(super) async fn doctor(config: &Config) -> Result<(), Failure> {
    let clock: SharedClock = Arc::new(SystemClock);
    let mut findings = Vec::new();
    for app in std::iter::once(&config.app).chain(&config.upstreams) {
        findings.push(probe::app(config, app).await);
    }
    findings.extend(upwork::all(config, &clock).await);
    findings.extend(session::all(config, &clock, &Handle::current()).await);
    findings.extend(certificates::all(config, &clock));
    findings.extend(doors::all(config));
    // A door that can only refuse calls has failed a check already.
    let warnings = config.warnings.iter().filter(|warning| warning.key != "neighbour.listen");
    findings.extend(warnings.map(|warning| Finding::warn(warning.key.clone(), &*warning.why, &*warning.remedy)));
    print(&report(&findings))?;
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    if failed { Err(Failure::Reported) } else { Ok(()) }
}
