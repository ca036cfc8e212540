//! `upwarden doctor`: goes and looks whether what the configuration names is there and answers as it should.
//!
//! In: the checked configuration. Out: a line for each thing looked at, `ok`, `warn` or `fail`, with a remedy where one is
//! needed. It signs nobody in, changes nothing, and prints no secret. It asks the app once, and Upwork a few times: the
//! token endpoint with a refresh token that cannot exist, and for a service identity's token where there is one.

mod certificates;
mod doors;
mod look;
mod session;
mod upwork;

use std::fmt::Write;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::{Failure, answer};
use crate::clock::{SharedClock, SystemClock};
use crate::config::Config;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    what: &'static str,
    text: String,
    remedy: String,
}

impl Finding {
    fn ok(what: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, what, text: text.into(), remedy: String::new() }
    }

    fn warn(what: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warn, what, text: text.into(), remedy: remedy.into() }
    }

    fn fail(what: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fail, what, text: text.into(), remedy: remedy.into() }
    }
}

/// Looks at everything and tells; an error where something failed.
pub(super) async fn doctor(config: &Config) -> Result<(), Failure> {
    let clock: SharedClock = Arc::new(SystemClock);
    let mut findings = vec![look::app(config).await];
    findings.extend(upwork::all(config, &clock).await);
    findings.extend(session::all(config, &clock, &Handle::current()).await);
    findings.extend(certificates::all(config, &clock));
    findings.extend(doors::all(config));
    answer(&report(&findings))?;
    if findings.iter().any(|finding| finding.level == Level::Fail) {
        Err(Failure::Other(String::new()))
    } else {
        Ok(())
    }
}

fn report(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { level, what, text: found, remedy } in findings {
        let level = match level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        };
        let remedy = if remedy.is_empty() { String::new() } else { format!("; {remedy}") };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{level:<5} {what:<14} — {found}{remedy}");
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (fails, warnings) = (count(Level::Fail), count(Level::Warn));
    let _ = write!(text, "\n{} looked at: {fails} failed, {warnings} to think about", findings.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_bad_it_is_what_was_found_and_what_to_do() {
        let text = report(&[
            Finding::ok("app", "answers"),
            Finding::fail("clock", "an hour off", "set it"),
            Finding::warn("store", "slow", "look"),
        ]);
        assert_eq!(
            text,
            "ok    app            — answers\nfail  clock          — an hour off; set it\n\
             warn  store          — slow; look\n\n3 looked at: 1 failed, 1 to think about"
        );
    }
}
