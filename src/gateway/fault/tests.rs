//! Checks `docs/faults.md` against the table, field by field.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use http::StatusCode;
use strum::EnumCount;

use super::row::{FaultRow, Links};
use super::{AppFault, ClientFault, Fault, NeighbourFault, NoTokens, OurFault, TicketFault, TokenFault, UpworkFault};
use crate::listener::Rejection;
use crate::oauth::{Unavailable, UnavailableKind};
use crate::pacing::{PaceRefusal, RateLimited};
use crate::pages::texts::Loop;

fn why() -> String {
    "why".to_owned()
}

fn client_faults() -> Vec<ClientFault> {
    let refused = Rejection { status: StatusCode::BAD_REQUEST, reason: "host", section: "RFC 9112 3.2" };
    vec![
        ClientFault::SignInRequired { sent: true },
        ClientFault::SignInRequired { sent: false },
        ClientFault::NotAdmitted { shown: why(), id: why() },
        ClientFault::NotAdmittedHere { id: why() },
        ClientFault::AddressTooLong,
        ClientFault::CrossSite,
        ClientFault::CrossSiteLink { target: why() },
        ClientFault::AmbiguousPath,
        ClientFault::NotFound,
        ClientFault::MethodNotAllowed("GET"),
        ClientFault::BadRequest("why"),
        ClientFault::Refused(refused),
        ClientFault::RequestCut,
        ClientFault::TooManyAtOnce,
        ClientFault::Declined(why()),
        ClientFault::LoginRequired(why()),
        ClientFault::BadState,
        ClientFault::CodeUsed(why()),
        ClientFault::Looped(Loop::Unknown),
        ClientFault::TooManySignIns,
        ClientFault::Paced(RateLimited { reason: PaceRefusal::Busy, retry_after: Duration::from_secs(3) }),
        ClientFault::ForbiddenTarget,
        ClientFault::Neighbour(NeighbourFault::Browser),
        ClientFault::Neighbour(NeighbourFault::Host),
        ClientFault::Neighbour(NeighbourFault::Secret),
        ClientFault::Neighbour(NeighbourFault::Path),
        ClientFault::Neighbour(NeighbourFault::NoServiceIdentity),
        ClientFault::Ticket(TicketFault::Bad),
        ClientFault::Ticket(TicketFault::Expired),
        ClientFault::Ticket(TicketFault::SessionOver),
        ClientFault::Ticket(TicketFault::WrongDoor),
        ClientFault::Token(TokenFault::Bad),
        ClientFault::Token(TokenFault::GrantOver),
        ClientFault::Token(TokenFault::OnlyApi),
        ClientFault::Token(TokenFault::Scope),
        ClientFault::Token(TokenFault::WrongDoor),
        ClientFault::NoTokens(NoTokens::Store),
        ClientFault::NoTokens(NoTokens::Refresh),
        ClientFault::NoTokens(NoTokens::Limit),
        ClientFault::ReadOnly { why: why(), too_long: false },
        ClientFault::ReadOnly { why: why(), too_long: true },
    ]
}

fn app_faults() -> Vec<AppFault> {
    vec![AppFault::Down(why()), AppFault::Untrusted(why()), AppFault::Slow, AppFault::Broken(why())]
}

fn upwork_faults() -> Vec<UpworkFault> {
    let unavailable = |kind| UpworkFault::SignInUnavailable(Unavailable { reason: why(), kind, retry_after: None });
    vec![
        UpworkFault::AuthorizationRefused(why()),
        UpworkFault::WrongIssuer(why()),
        unavailable(UnavailableKind::NoResponse),
        unavailable(UnavailableKind::ServerError),
        unavailable(UnavailableKind::Invalid),
        unavailable(UnavailableKind::Busy),
        UpworkFault::ApiDown(why()),
        UpworkFault::ApiSlow,
        UpworkFault::RefreshUnavailable { why: why(), retry_after: None },
        UpworkFault::SendAgain,
        UpworkFault::ServiceUnavailable(why()),
    ]
}

fn our_faults() -> Vec<OurFault> {
    vec![
        OurFault::StoreDown(why()),
        OurFault::Overloaded,
        OurFault::RequestLoop,
        OurFault::KeyRefused(why()),
        OurFault::WrongHost { asked: why(), public_url: why() },
        OurFault::SessionTooLarge(30_000),
        OurFault::Internal(why()),
    ]
}

/// One of each variant, and one of each row where a variant has several.
fn all() -> Vec<Fault> {
    let client = client_faults().into_iter().map(Fault::from).chain(app_faults().into_iter().map(Fault::from));
    client
        .chain(upwork_faults().into_iter().map(Fault::from))
        .chain(our_faults().into_iter().map(Fault::from))
        .collect()
}

#[test]
fn every_variant_has_an_example() {
    fn check<F: EnumCount>(examples: &[F]) {
        let variants: HashSet<_> = examples.iter().map(std::mem::discriminant).collect();
        assert_eq!(variants.len(), F::COUNT);
    }
    check(&client_faults());
    check(&app_faults());
    check(&upwork_faults());
    check(&our_faults());
    check(&all());
}

/// What the document says about a fault: statuses, side, whether it has `Retry-After`, and the links of its page.
type Documented = (BTreeSet<u16>, String, String, String);

fn documented() -> BTreeMap<String, Documented> {
    let text = include_str!("../../../docs/faults.md");
    let rows = text.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, statuses, side, retry, page, _, _] = cells[..] else { panic!("seven cells: {line}") };
        let statuses = statuses.split(", ").map(|status| status.parse().expect(line)).collect();
        (name.trim_matches('`').to_owned(), (statuses, side.to_owned(), retry.to_owned(), page.to_owned()))
    });
    let mut found = BTreeMap::new();
    for (name, row) in rows {
        assert!(found.insert(name.clone(), row).is_none(), "{name} has two rows");
    }
    found
}

fn of_row(row: &FaultRow) -> (u16, String, String, String) {
    let retry = if row.retry_after.is_some() { "yes" } else { "" };
    let page = match row.links {
        Links::Reload => "reloads",
        Links::Home => "",
        Links::Open => "open",
        Links::SignIn | Links::SignInElsewhere | Links::SignInAgain => "sign in",
    };
    (row.status.as_u16(), row.side.as_str().to_owned(), retry.to_owned(), page.to_owned())
}

#[test]
fn the_document_says_of_every_fault_what_the_table_does() {
    let mut table: BTreeMap<String, Documented> = BTreeMap::new();
    for fault in all() {
        let row = fault.row();
        let (status, side, retry, page) = of_row(&row);
        let entry = table
            .entry(row.name.to_owned())
            .or_insert_with(|| (BTreeSet::new(), side.clone(), retry.clone(), page.clone()));
        entry.0.insert(status);
        assert_eq!((&entry.1, &entry.2, &entry.3), (&side, &retry, &page), "{}: one name, one row", row.name);
    }
    // A refused message has the status that the broken rule asks for.
    let listener = [408, 413, 414, 431, 501, 505];
    table.get_mut("bad-message").expect("a row").0.extend(listener);
    assert_eq!(documented(), table, "left: docs/faults.md, right: the table");
}

#[test]
fn every_text_says_what_happened_and_what_to_do() {
    let (host, large) = (Loop::WrongHost(why()), Loop::CookieTooBig(9000));
    let loops = [Loop::CookieLost, Loop::PlainHttp, large, Loop::Clock(600), host, Loop::KeyChanged];
    for fault in all().into_iter().chain(loops.map(|cause| ClientFault::Looped(cause).into())) {
        let row = fault.row();
        let (title, cause, remedy) = (row.words.page.title, &row.words.page.cause, &row.words.page.remedy);
        assert!(!title.is_empty() && !title.ends_with('.') && title.len() < 50, "{title}");
        assert!(row.name == "bad-request" || cause.ends_with('.'), "{cause}");
        assert!(!cause.is_empty() && !remedy.is_empty() && remedy.lines().all(|line| line.ends_with('.')), "{remedy}");
    }
}

/// A program sees no buttons, tabs or pages.
#[test]
fn no_detail_for_programs_speaks_of_a_page() {
    for fault in all() {
        let row = fault.row();
        let own = format!("{} {}", row.words.page.cause, row.words.page.remedy);
        let detail = row.words.detail.as_deref().unwrap_or(&own).to_lowercase();
        for word in ["button", "this tab", "this page", "start page", "from here", "press", "your browser"] {
            assert!(!detail.contains(word), "{}: {word}: {detail}", row.name);
        }
        assert!(detail.ends_with('.'), "{}: {detail}", row.name);
    }
}
