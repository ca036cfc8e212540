//! Who may do what, as a pure function that is tested as a table.
//!
//! Takes the [`Facts`] of a request, its [`Credential`] and the access rules, and returns a [`Decision`]; [`Routes`]
//! finds the part of the app that a request is for. Never sees a request, a header or a token.

mod access;
mod routes;

use crate::session::Session;
use crate::telemetry::Door;
pub use access::Access;
pub use routes::{AppRoute, Routes};

/// The target of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// The app, by this route.
    App(&'a AppRoute),
    /// The Upwork API.
    Api,
    /// One of our own pages or endpoints that needs a session.
    Own,
}

/// The site of the page that made a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// `Sec-Fetch-Site: same-origin`; or no such field, and an `Origin` that is ours.
    Ours,
    /// `Sec-Fetch-Site: none`: the address bar, a bookmark.
    Direct,
    /// Neither `Sec-Fetch-Site` nor `Origin`: not a current browser.
    Unknown,
    /// Anything else.
    Foreign,
}

/// What the gateway knows about a request before a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts<'a> {
    /// The door it came in by.
    pub door: Door,
    /// What it asks for.
    pub target: Target<'a>,
    /// GET or HEAD.
    pub safe: bool,
    /// It may change something: a method other than GET, HEAD and OPTIONS, or an upgrade, after which there are no
    /// methods.
    pub writes: bool,
    /// A top-level navigation, whose answer appears in the address bar.
    pub navigation: bool,
    /// A parameter of the address may change the method at the API.
    pub overrides_method: bool,
    /// A CORS preflight that the configuration passes to the app.
    pub preflight: bool,
    /// The site whose page made it.
    pub site: Site,
}

/// What authenticates a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Credential<'a> {
    /// Nothing valid.
    Nothing,
    /// A session, by its cookie.
    Cookie(&'a Session),
    /// A session, by a ticket or a personal access token, which browsers never add automatically; `true` if its owner
    /// made it read-only.
    Token(&'a Session, bool),
    /// The neighbour door's service identity.
    Service,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Let it pass, as the user of its credential.
    Allow,
    /// Let it pass, without a user.
    AllowAnonymous,
    /// Send the browser to Upwork.
    SignIn,
    /// 401.
    NeedsSession,
    /// 403: another site's page made it.
    CrossSite,
    /// 403: signed in, but not admitted.
    NotAdmitted,
    /// 403: admitted, but not to this part of the app.
    NotAdmittedHere,
    /// 403: this part of the app may only be read, or the token only reads.
    ReadOnly,
}

/// The rules, in this order:
/// 1. a public route, or a preflight that is passed on, needs no session, but uses one if there is one;
/// 2. without a session, or with one that has ended, a safe navigation is sent to sign in, and anything else gets a
///    401;
/// 3. a signed-in user must be admitted, on every request, by the access rules and by the route to the app, which may also
///    be read-only;
/// 4. another site cannot call the API with a cookie, not even by a navigation, and only our own pages may change a
///    method (docs/design.md "Other sites").
pub(crate) fn decide(facts: Facts<'_>, credential: Credential<'_>, access: &Access) -> Decision {
    let open = matches!(facts.target, Target::App(AppRoute { public: true, .. })) || facts.preflight;
    let (session, by_cookie, only_reads) = match credential {
        Credential::Service => return Decision::Allow,
        Credential::Cookie(session) => (session, true, false),
        Credential::Token(session, only_reads) => (session, false, only_reads),
        Credential::Nothing if open => return Decision::AllowAnonymous,
        Credential::Nothing => return without_session(facts),
    };
    let user = &session.user.id;
    let organization = session.organization.as_ref().map(|organization| organization.id.as_str());
    let admitted = access.admits(user, organization);
    match (access.ended(user, session.began_at), admitted) {
        (true, _) | (false, false) if open => Decision::AllowAnonymous,
        (true, _) => without_session(facts),
        (false, false) => Decision::NotAdmitted,
        (false, true) if only_reads && facts.writes && matches!(facts.target, Target::App(_)) => Decision::ReadOnly,
        (false, true) => admitted_to(facts, by_cookie, |access| access.admits(user, organization)),
    }
}

/// For a user whom the access rules admit.
fn admitted_to(facts: Facts<'_>, by_cookie: bool, is_in: impl Fn(&Access) -> bool) -> Decision {
    match facts.target {
        Target::App(_) if facts.preflight => Decision::Allow,
        Target::App(route) if route.admits.as_ref().is_some_and(|access| !is_in(access)) => Decision::NotAdmittedHere,
        Target::App(route) if route.read_only && facts.writes => Decision::ReadOnly,
        Target::Api if by_cookie && !may_call(facts) => Decision::CrossSite,
        Target::App(_) | Target::Api | Target::Own => Decision::Allow,
    }
}

fn without_session(facts: Facts<'_>) -> Decision {
    if facts.door == Door::Public && facts.safe && facts.navigation { Decision::SignIn } else { Decision::NeedsSession }
}

/// Rule 4, for requests with a cookie.
fn may_call(facts: Facts<'_>) -> bool {
    match facts.site {
        Site::Ours => true,
        Site::Direct | Site::Unknown => !facts.overrides_method,
        Site::Foreign => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::session::tests::session;

    fn facts(target: Target<'_>) -> Facts<'_> {
        Facts {
            door: Door::Public,
            target,
            safe: true,
            writes: false,
            navigation: false,
            overrides_method: false,
            preflight: false,
            site: Site::Unknown,
        }
    }

    fn anyone() -> Access {
        Access { anyone: true, ..Access::default() }
    }

    static LAST: LazyLock<AppRoute> = LazyLock::new(AppRoute::last);

    fn app() -> Target<'static> {
        Target::App(&LAST)
    }

    #[test]
    fn without_a_session_only_a_safe_navigation_is_sent_to_sign_in() {
        for (safe, navigation, expected) in [
            (true, true, Decision::SignIn),
            (true, false, Decision::NeedsSession),
            (false, true, Decision::NeedsSession),
            (false, false, Decision::NeedsSession),
        ] {
            for target in [app(), Target::Api, Target::Own] {
                let facts = Facts { safe, navigation, ..facts(target) };
                assert_eq!(decide(facts, Credential::Nothing, &anyone()), expected, "{facts:?}");
            }
        }
        let neighbour = Facts { door: Door::Neighbour, navigation: true, ..facts(Target::Api) };
        assert_eq!(decide(neighbour, Credential::Nothing, &anyone()), Decision::NeedsSession);
    }

    #[test]
    fn public_routes_and_preflights_need_no_session_but_use_an_existing_one() {
        let public = AppRoute { public: true, ..AppRoute::last() };
        let public = facts(Target::App(&public));
        assert_eq!(decide(public, Credential::Nothing, &anyone()), Decision::AllowAnonymous);
        assert_eq!(decide(public, Credential::Cookie(&session(true)), &anyone()), Decision::Allow);
        assert_eq!(decide(public, Credential::Cookie(&session(true)), &Access::default()), Decision::AllowAnonymous);
        let preflight = Facts { preflight: true, safe: false, ..facts(app()) };
        assert_eq!(decide(preflight, Credential::Nothing, &anyone()), Decision::AllowAnonymous);
    }

    #[test]
    fn access_rules_hold_on_every_request() {
        let held = session(true);
        let table = [
            (Access::default(), Decision::NotAdmitted),
            (Access { users: ["1".to_owned()].into(), ..Access::default() }, Decision::Allow),
            (Access { users: ["2".to_owned()].into(), ..Access::default() }, Decision::NotAdmitted),
            (Access { organizations: ["2".to_owned()].into(), ..Access::default() }, Decision::Allow),
            (Access { organizations: ["1".to_owned()].into(), ..Access::default() }, Decision::NotAdmitted),
            (anyone(), Decision::Allow),
        ];
        for (access, expected) in table {
            for target in [app(), Target::Api, Target::Own] {
                assert_eq!(decide(facts(target), Credential::Cookie(&held), &access), expected, "{access:?}");
                assert_eq!(decide(facts(target), Credential::Token(&held, false), &access), expected, "{access:?}");
            }
        }
    }

    #[test]
    fn a_route_may_admit_fewer_and_allow_only_reading() {
        let held = session(true);
        let users = |id: &str| Some(Access { users: [id.to_owned()].into(), ..Access::default() });
        let organizations = |id: &str| Some(Access { organizations: [id.to_owned()].into(), ..Access::default() });
        let table = [
            (users("1"), false, false, Decision::Allow),
            (users("2"), false, false, Decision::NotAdmittedHere),
            (organizations("2"), false, false, Decision::Allow),
            (organizations("1"), false, true, Decision::NotAdmittedHere),
            (None, true, false, Decision::Allow),
            (None, true, true, Decision::ReadOnly),
            (None, false, true, Decision::Allow),
            (users("2"), true, true, Decision::NotAdmittedHere),
        ];
        for (admits, read_only, writes, expected) in table {
            let route = AppRoute { admits, read_only, ..AppRoute::last() };
            let facts = Facts { writes, ..facts(Target::App(&route)) };
            for credential in [Credential::Cookie(&held), Credential::Token(&held, false)] {
                assert_eq!(decide(facts, credential, &anyone()), expected, "{facts:?}");
                assert_eq!(decide(facts, credential, &Access::default()), Decision::NotAdmitted, "{facts:?}");
            }
            let reader = decide(facts, Credential::Token(&held, true), &anyone());
            assert_eq!(reader, if writes { Decision::ReadOnly } else { expected }, "{facts:?}");
            assert_eq!(decide(facts, Credential::Nothing, &anyone()), Decision::NeedsSession, "{facts:?}");
            let preflight = Facts { preflight: true, ..facts };
            assert_eq!(decide(preflight, Credential::Cookie(&held), &anyone()), Decision::Allow, "{facts:?}");
        }
    }

    #[test]
    fn not_before_ends_the_sessions_that_began_earlier() {
        let held = session(true);
        let after = Access {
            not_before: [("1".to_owned(), held.began_at.plus(std::time::Duration::from_secs(1)))].into(),
            ..anyone()
        };
        let at = Access { not_before: [("1".to_owned(), held.began_at)].into(), ..anyone() };
        assert_eq!(decide(facts(app()), Credential::Cookie(&held), &after), Decision::NeedsSession);
        assert_eq!(decide(facts(app()), Credential::Cookie(&held), &at), Decision::Allow);
    }

    #[test]
    fn another_site_cannot_call_the_api_with_a_cookie() {
        let held = session(true);
        let foreign = Facts { site: Site::Foreign, ..facts(Target::Api) };
        let table = [
            (foreign, Decision::CrossSite),
            (Facts { navigation: true, ..foreign }, Decision::CrossSite),
            (Facts { navigation: true, safe: false, ..foreign }, Decision::CrossSite),
            (Facts { site: Site::Ours, overrides_method: true, ..foreign }, Decision::Allow),
            (Facts { site: Site::Direct, navigation: true, ..foreign }, Decision::Allow),
            (Facts { site: Site::Direct, navigation: true, overrides_method: true, ..foreign }, Decision::CrossSite),
            (Facts { site: Site::Unknown, overrides_method: true, ..foreign }, Decision::CrossSite),
            (Facts { site: Site::Unknown, safe: false, ..foreign }, Decision::Allow),
        ];
        for (facts, expected) in table {
            assert_eq!(decide(facts, Credential::Cookie(&held), &anyone()), expected, "{facts:?}");
            assert_eq!(decide(facts, Credential::Token(&held, false), &anyone()), Decision::Allow, "{facts:?}");
        }
        assert_eq!(decide(Facts { target: app(), ..foreign }, Credential::Cookie(&held), &anyone()), Decision::Allow);
    }

    #[test]
    fn the_service_identity_needs_no_rule() {
        let facts = Facts { door: Door::Neighbour, ..facts(Target::Api) };
        assert_eq!(decide(facts, Credential::Service, &Access::default()), Decision::Allow);
    }
}
