//! The result of a check, and the report of all results.

use std::borrow::Cow;
use std::fmt::Write;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Ok,
    Warn,
    Fail,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    what: Cow<'static, str>,
    pub(super) text: String,
    /// What to do; empty if there is nothing to do.
    remedy: String,
}

impl Finding {
    pub(super) fn ok(what: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, what: what.into(), text: text.into(), remedy: String::new() }
    }

    pub(super) fn warn(what: impl Into<Cow<'static, str>>, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warn, what: what.into(), text: text.into(), remedy: remedy.into() }
    }

    pub(super) fn fail(what: impl Into<Cow<'static, str>>, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fail, what: what.into(), text: text.into(), remedy: remedy.into() }
    }
}

pub(super) fn report(findings: &[Finding]) -> String {
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
    let (failed, warnings) = (count(Level::Fail), count(Level::Warn));
    let _ = write!(text, "\n{} checks: {failed} failed, {warnings} with warnings", findings.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_level_what_was_found_and_what_to_do() {
        let text = report(&[
            Finding::ok("app", "answers"),
            Finding::fail("clock", "an hour off", "set it"),
            Finding::warn("store", "slow", "look"),
        ]);
        assert_eq!(
            text,
            "ok    app            — answers\nfail  clock          — an hour off; set it\n\
             warn  store          — slow; look\n\n3 checks: 1 failed, 1 with warnings"
        );
    }
}
