//! One row of the table of faults.

use std::borrow::Cow;

use http::StatusCode;

use crate::pages::texts::Text;
use crate::telemetry::Side;

#[derive(Debug)]
pub(in crate::gateway) struct FaultRow {
    pub(in crate::gateway) side: Side,
    pub(in crate::gateway) status: StatusCode,
    /// The last part of `urn:upwarden:…`, and the name in the log.
    pub(in crate::gateway) name: &'static str,
    pub(in crate::gateway) words: Words,
    pub(in crate::gateway) log: LogEntry,
    pub(in crate::gateway) retry_after: Option<u64>,
    pub(in crate::gateway) links: Links,
}

#[derive(Debug)]
pub(in crate::gateway) struct Words {
    pub(in crate::gateway) page: Text,
    /// The `detail` of the problem document, where the page's words would not help a program.
    pub(in crate::gateway) detail: Option<Cow<'static, str>>,
}

#[derive(Debug)]
pub(in crate::gateway) struct LogEntry {
    pub(in crate::gateway) level: tracing::Level,
    /// What the client does not see: an error's text, or what to configure.
    pub(in crate::gateway) seen: Option<String>,
}

/// The links and buttons of a fault's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Links {
    /// None: the page reloads.
    Reload,
    Home,
    /// The requested address, opened by a click on our own page.
    Open,
    SignIn,
    /// Sign-in in a new tab, so that the content of this page is not lost.
    SignInElsewhere,
    /// Another sign-in, or the start page.
    SignInAgain,
}

impl FaultRow {
    pub(super) fn new(status: StatusCode, name: &'static str, text: Text) -> Self {
        Self {
            side: Side::Client,
            status,
            name,
            words: Words { page: text, detail: None },
            log: LogEntry { level: tracing::Level::DEBUG, seen: None },
            retry_after: None,
            links: Links::Home,
        }
    }

    /// The text for programs, instead of the page's.
    pub(super) fn detail(self, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { words: Words { detail: Some(detail.into()), ..self.words }, ..self }
    }

    pub(super) fn retry(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    pub(super) fn seen(self, seen: &str) -> Self {
        Self { log: LogEntry { seen: Some(seen.to_owned()), ..self.log }, ..self }
    }

    pub(super) fn links(self, links: Links) -> Self {
        Self { links, ..self }
    }

    /// The client did nothing wrong, so the site's administrator should see it.
    pub(super) fn notable(self) -> Self {
        Self { log: LogEntry { level: tracing::Level::INFO, ..self.log }, ..self }
    }

    pub(super) fn by(self, side: Side, level: tracing::Level) -> Self {
        Self { side, log: LogEntry { level, ..self.log }, ..self }
    }
}

pub(super) fn words(title: &'static str, cause: impl Into<Cow<'static, str>>, remedy: &'static str) -> Text {
    Text { title, cause: cause.into(), remedy: Cow::Borrowed(remedy) }
}
