//! Renders a fault: a page for a person, a problem document (RFC 9457) for a program, and a log line.

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, RETRY_AFTER, VARY, WWW_AUTHENTICATE};
use http::{Method, StatusCode};

use super::row::{FaultRow, Links};
use super::{ClientFault, Fault, OurFault};
use crate::gateway::request::RequestInfo;
use crate::gateway::response;
use crate::pages::{self, Action, Branding, Frame, ProblemView};
use crate::response::Response;
use crate::router::ReturnTo;
use crate::telemetry::RequestId;
use crate::telemetry::trace::TraceId;

/// The request that a fault answers.
#[derive(Debug)]
pub(in crate::gateway) struct FaultView<'a> {
    request: &'a RequestInfo,
    prefix: &'a str,
    branding: &'a Branding,
    /// The request was a GET, so it can be repeated safely.
    repeatable: bool,
    return_to: Option<ReturnTo>,
}

impl<'a> FaultView<'a> {
    pub(in crate::gateway) fn of(request: &'a RequestInfo, prefix: &'a str, branding: &'a Branding) -> Self {
        Self {
            request,
            prefix,
            branding,
            repeatable: request.method == Method::GET,
            return_to: match &request.fetch.framed_by {
                Some(around) => ReturnTo::parse(around, prefix),
                None => request.return_to(prefix),
            },
        }
    }

    /// It is shown inside another page of this site, so its links open in the top window.
    fn is_framed(&self) -> bool {
        self.request.fetch.framed_by.is_some()
    }

    /// Its query has a code, which must be removed from the address bar (RFC 9700 section 4.2.4) and not sent as a
    /// referrer.
    fn is_callback(&self) -> bool {
        self.request.path().strip_prefix(self.prefix) == Some("/auth/callback")
    }

    /// For a callback: no link leads back to it, and a new sign-in leads to where the first was meant to.
    pub(in crate::gateway) fn of_callback(
        request: &'a RequestInfo,
        prefix: &'a str,
        branding: &'a Branding,
        place: Option<ReturnTo>,
    ) -> Self {
        Self { repeatable: false, return_to: place, ..Self::of(request, prefix, branding) }
    }

    /// Inserts this site's prefix into a text of the table.
    fn fill(&self, text: &str) -> String {
        text.replace("{prefix}", self.prefix)
    }

    fn login_url(&self) -> String {
        match &self.return_to {
            Some(place) => format!("{}/auth/login?return_to={}", self.prefix, place.encoded()),
            None => format!("{}/auth/login", self.prefix),
        }
    }
}

pub(in crate::gateway) fn render(fault: &Fault, row: &FaultRow, view: &FaultView<'_>) -> Response {
    log(row, &view.request.id);
    let mut response = if view.request.fetch.person { page(fault, row, view) } else { problem(row, view) };
    let headers = &mut response.headers;
    if row.status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, challenge(fault));
    }
    if let Some(seconds) = row.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Fault::Client(ClientFault::MethodNotAllowed(methods)) = fault {
        headers.insert(ALLOW, HeaderValue::from_static(methods));
    }
    if view.is_callback() {
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
    // The same address is a page for one client and a problem document for another.
    headers.insert(VARY, HeaderValue::from_static("Accept, Sec-Fetch-Mode, Cookie"));
    response
}

/// RFC 6750 section 3.1: names an invalid token as such.
fn challenge(fault: &Fault) -> HeaderValue {
    let shown = matches!(fault, Fault::Client(ClientFault::Ticket(_) | ClientFault::Token(_)));
    let text = if shown { "Bearer realm=\"upwarden\", error=\"invalid_token\"" } else { response::CHALLENGE };
    HeaderValue::from_static(text)
}

fn log(row: &FaultRow, id: &RequestId) {
    let (fault, side, seen) = (row.name, row.side.as_str(), row.log.seen.as_deref());
    match row.log.level {
        tracing::Level::ERROR => tracing::error!(request_id = %id, fault, side, seen, "fault"),
        tracing::Level::WARN => tracing::warn!(request_id = %id, fault, side, seen, "fault"),
        tracing::Level::INFO => tracing::info!(request_id = %id, fault, side, seen, "fault"),
        _ => tracing::debug!(request_id = %id, fault, side, seen, "fault"),
    }
}

fn page(fault: &Fault, row: &FaultRow, view: &FaultView<'_>) -> Response {
    let (id, login) = (view.request.id.to_string(), view.login_url());
    // `/` would lead to the wrong host again.
    let home = match fault {
        Fault::Ours(OurFault::WrongHost { public_url, .. }) => public_url,
        Fault::Client(_) | Fault::App(_) | Fault::Upwork(_) | Fault::Ours(_) => "/",
    };
    let sign_in = |label, new_tab| Action { label, href: &login, new_tab };
    let start = Action { label: "Go to the start page", href: home, new_tab: false };
    let actions = match row.links {
        Links::Reload => vec![],
        Links::Home => vec![start],
        Links::Open => {
            let target = if let Fault::Client(ClientFault::CrossSiteLink { target }) = fault { target } else { home };
            vec![start, Action { label: "Open it", href: target, new_tab: false }]
        }
        Links::SignIn => vec![sign_in("Sign in with Upwork", false)],
        Links::SignInElsewhere => vec![sign_in("Sign in with Upwork", true)],
        Links::SignInAgain => vec![sign_in("Sign in again", false), start],
    };
    let retry_after = row.retry_after.filter(|_| view.repeatable).and_then(|seconds| u32::try_from(seconds).ok());
    let (cause, remedy) = (view.fill(&row.words.page.cause), view.fill(&row.words.page.remedy));
    let page = pages::problem(&ProblemView {
        frame: Frame { prefix: view.prefix, request_id: Some(&id), branding: view.branding },
        framed: view.is_framed(),
        status: row.status.as_u16(),
        title: row.words.page.title,
        cause: &cause,
        remedy: &remedy,
        actions: &actions,
        retry_after,
        // A page that reloads needs its query.
        wipe_query: view.is_callback() && retry_after.is_none(),
        details: &[],
        copy: match fault {
            Fault::Client(ClientFault::NotAdmitted { id, .. }) => Some(("Your user id", id)),
            Fault::Client(_) | Fault::App(_) | Fault::Upwork(_) | Fault::Ours(_) => None,
        },
    });
    if view.is_framed() { response::framed_page(row.status, page) } else { response::page(row.status, page) }
}

/// RFC 9457, with our own members.
#[derive(serde::Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: String,
    request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<TraceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    login_url: Option<String>,
}

fn problem(row: &FaultRow, view: &FaultView<'_>) -> Response {
    let detail = row.words.detail.clone().unwrap_or_else(|| {
        let remedy = row.words.page.remedy.replace('\n', " ");
        format!("{} {remedy}", row.words.page.cause).into()
    });
    let problem = Problem {
        kind: format!("urn:upwarden:{}", row.name),
        title: row.words.page.title,
        status: row.status.as_u16(),
        detail: view.fill(&detail),
        request_id: view.request.id.to_string(),
        trace_id: view.request.trace.as_ref().map(|trace| trace.id()),
        login_url: matches!(row.links, Links::SignIn | Links::SignInElsewhere).then(|| view.login_url()),
    };
    response::json(row.status, &problem).with(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))
}
