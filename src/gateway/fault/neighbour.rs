//! What the neighbour door refuses, and why.
//!
//! In: a fault of that door. Out: its status and words. Whoever reads them is a program's author.

use http::StatusCode;

use super::{Fault, Told, words};
use crate::telemetry::Side;

impl Fault {
    pub(super) fn by_neighbour(&self) -> Told {
        let told =
            |status, name, title, cause, remedy| Told::new(Side::Client, status, name, words(title, cause, remedy));
        match self {
            Self::NeighbourBrowser => told(
                StatusCode::FORBIDDEN,
                "neighbour-browser",
                "This door is not for browsers",
                "The request carries `Origin` or `Sec-Fetch-Site`, so a web page made it; this door is for programs next door.",
                "Use the public door from a browser.",
            ),
            Self::NeighbourHost => told(
                StatusCode::FORBIDDEN,
                "neighbour-host",
                "This door does not answer to that name",
                "The request’s `Host` is not one of `neighbour.hosts`, as happens when a web page’s name is pointed at this machine.",
                "Call it as 127.0.0.1 or localhost, or list the name in `neighbour.hosts`.",
            ),
            Self::NeighbourSecret => told(
                StatusCode::FORBIDDEN,
                "neighbour-secret",
                "This door asks for its secret",
                "The field `X-Upwarden-Secret` is missing or wrong.",
                "Send the secret of `neighbour.secret_file` in `X-Upwarden-Secret`.",
            ),
            Self::NoServiceIdentity => told(
                StatusCode::UNAUTHORIZED,
                "no-service-identity",
                "Nobody to call as",
                "This upwarden has no service identity, and the request shows no ticket.",
                "Set `service.grant` in the configuration, or send the ticket of the user for whom you call.",
            ),
            Self::ServiceDead(why) => Told::new(
                Side::Upwork,
                StatusCode::SERVICE_UNAVAILABLE,
                "service-unavailable",
                words(
                    "The service identity has no token",
                    "Upwork gave the service identity no token.",
                    "Whoever runs this site finds the reason in the log, and in the body of /readyz.",
                ),
            )
            .retry(5)
            .seen(why),
            _ => told(
                StatusCode::NOT_FOUND,
                "not-found",
                "There is nothing here",
                "The neighbour door has Upwork’s API and nothing else.",
                "Call it under /upwork/api/ or at /upwork/graphql (or your own prefix).",
            ),
        }
    }
}
