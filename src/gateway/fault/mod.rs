//! The table of all faults: the answers that upwarden gives instead of what was requested.
//!
//! Each side that can be at fault has an enum, and each variant has one [`FaultRow`]: status, name, texts, log level,
//! `Retry-After`, and the links of its page. There is no wildcard arm, so a new variant does not compile until it has a
//! row. Names are stable; `docs/faults.md` lists them, and a test checks it against this table. Texts contain no
//! secret.

mod app;
mod client;
mod convert;
mod credentials;
mod ours;
mod render;
mod row;
#[cfg(test)]
mod tests;
mod upwork;

use crate::telemetry::Side;

pub(super) use app::AppFault;
pub(super) use client::ClientFault;
pub(super) use credentials::{NeighbourFault, NoTokens, TicketFault, TokenFault};
pub(super) use ours::OurFault;
pub(super) use render::{FaultView, render};
use row::FaultRow;
pub(super) use upwork::UpworkFault;

#[derive(Clone, Debug, strum::EnumCount)]
pub(super) enum Fault {
    Client(ClientFault),
    App(AppFault),
    Upwork(UpworkFault),
    Ours(OurFault),
}

impl Fault {
    pub(super) fn row(&self) -> FaultRow {
        match self {
            Self::Client(fault) => fault.row(),
            Self::App(fault) => fault.row().by(Side::App, tracing::Level::WARN),
            Self::Upwork(fault) => fault.row().by(Side::Upwork, tracing::Level::WARN),
            Self::Ours(fault) => fault.row().by(Side::Ours, tracing::Level::ERROR),
        }
    }

    /// The id of the user it is about. The access log shows it, so that an operator can admit the user.
    pub(super) fn user(&self) -> Option<&str> {
        match self {
            Self::Client(ClientFault::NotAdmitted { id, .. } | ClientFault::NotAdmittedHere { id }) => Some(id),
            Self::Client(_) | Self::App(_) | Self::Upwork(_) | Self::Ours(_) => None,
        }
    }
}
