//! The one table of everything upwarden answers itself instead of what was asked for.
//!
//! Each side that can be at fault has an enum, and each variant has one [`FaultRow`]: status, name, texts, log level,
//! `Retry-After`, and the ways on that its page offers. There is no wildcard arm, so a new variant does not compile before
//! its row is written. Names are stable; `docs/faults.md` lists them, and a test holds it against this table. Texts name no
//! secret.

mod app;
mod client;
mod convert;
mod ours;
mod render;
#[cfg(test)]
mod tests;
mod upwork;

use std::borrow::Cow;

use http::StatusCode;

use crate::pages::texts::Text;
use crate::telemetry::Side;

pub(super) use app::AppFault;
pub(super) use client::{ClientFault, NeighbourFault, NoTokens, TicketFault, TokenFault};
pub(super) use ours::OurFault;
pub(super) use render::{FaultView, render};
pub(super) use upwork::UpworkFault;

/// What went wrong, by whose fault it is.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    Client(ClientFault),
    App(AppFault),
    Upwork(UpworkFault),
    Ours(OurFault),
}

/// What a fault comes to.
#[derive(Debug)]
pub(super) struct FaultRow {
    pub(super) side: Side,
    pub(super) status: StatusCode,
    /// The last part of `urn:upwarden:…`, and the name in the log.
    pub(super) name: &'static str,
    pub(super) text: Text,
    pub(super) level: tracing::Level,
    /// Seconds, for `Retry-After`.
    pub(super) retry_after: Option<u64>,
    /// What was seen, for the log only.
    pub(super) seen: Option<String>,
    pub(super) links: Links,
}

/// The ways on that a fault's page offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    /// None: the page reloads by itself.
    Reload,
    /// The start page.
    Home,
    /// A first sign-in.
    SignIn,
    /// Another sign-in, or the start page.
    SignInAgain,
}

impl FaultRow {
    fn new(status: StatusCode, name: &'static str, text: Text) -> Self {
        Self {
            side: Side::Client,
            status,
            name,
            text,
            level: tracing::Level::DEBUG,
            retry_after: None,
            seen: None,
            links: Links::Home,
        }
    }

    fn retry(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    fn seen(self, seen: &str) -> Self {
        Self { seen: Some(seen.to_owned()), ..self }
    }

    fn links(self, links: Links) -> Self {
        Self { links, ..self }
    }

    /// The client did nothing wrong, so whoever runs the site should see it.
    fn notable(self) -> Self {
        Self { level: tracing::Level::INFO, ..self }
    }

    fn by(self, side: Side, level: tracing::Level) -> Self {
        Self { side, level, ..self }
    }
}

/// A text that stands in the table itself.
fn words(title: &'static str, cause: impl Into<Cow<'static, str>>, remedy: &'static str) -> Text {
    Text { title, cause: cause.into(), remedy: Cow::Borrowed(remedy) }
}

impl Fault {
    /// The fault's row in the table.
    pub(super) fn row(&self) -> FaultRow {
        match self {
            Self::Client(fault) => fault.row(),
            Self::App(fault) => fault.row().by(Side::App, tracing::Level::WARN),
            Self::Upwork(fault) => fault.row().by(Side::Upwork, tracing::Level::WARN),
            Self::Ours(fault) => fault.row().by(Side::Ours, tracing::Level::ERROR),
        }
    }

    /// The id of the user it is about, for the access log: who asks to be let in is found there.
    pub(super) fn user(&self) -> Option<&str> {
        if let Self::Client(ClientFault::NotAdmitted { id, .. }) = self { Some(id) } else { None }
    }
}
