//! Who may do what, as a pure function that is tested as a table.
//!
//! From the [`Facts`] of a request, its [`Credential`] and the access rules it makes a [`Decision`]. It never sees a request,
//! a header or a token.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::session::Session;
use crate::telemetry::Door;

/// Who is admitted: docs/configuration.md "access". Checked for every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// Admitted `user.id`s.
    pub users: BTreeSet<String>,
    /// Admitted `organization.id`s.
    pub organizations: BTreeSet<String>,
    /// Anyone who can sign in to Upwork is admitted.
    pub anyone: bool,
    /// Sessions of these users that began before the moment are over.
    pub not_before: BTreeMap<String, Timestamp>,
}

impl Access {
    /// Whether this user, acting for this organization, is admitted.
    pub(crate) fn admits(&self, user: &str, organization: Option<&str>) -> bool {
        self.anyone
            || self.users.contains(user)
            || organization.is_some_and(|organization| self.organizations.contains(organization))
    }

    /// Whether a session of `user` that began at `began_at` was ended by `access.not_before`.
    pub(crate) fn ended(&self, user: &str, began_at: Timestamp) -> bool {
        self.not_before.get(user).is_some_and(|moment| began_at < *moment)
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The app; `public` where `app.public_paths` says so.
    App {
        /// Needs no session.
        public: bool,
    },
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
pub(crate) struct Facts {
    /// The door it came in by.
    pub door: Door,
    /// What it asks for.
    pub target: Target,
    /// GET or HEAD.
    pub safe: bool,
    /// A top-level navigation, whose answer the address bar follows.
    pub navigation: bool,
    /// A parameter of the address may turn the method into another one, at the API.
    pub overrides_method: bool,
    /// A CORS preflight that the configuration passes to the app.
    pub preflight: bool,
    /// Whose page made it.
    pub site: Site,
}

/// What authenticates a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Credential<'a> {
    /// Nothing valid.
    Nothing,
    /// A session, by its cookie.
    Cookie(&'a Session),
    /// A session, by a ticket or a personal access token, which no browser adds by itself.
    Token(&'a Session),
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
}

/// The rules, in this order:
/// 1. a public path, or a preflight that is passed on, needs no session, and uses one where there is one;
/// 2. without a session, or with one that is over, a safe navigation is sent to sign in, and everything else is a 401;
/// 3. a signed-in user must be admitted, on every request;
/// 4. another site cannot call the API with a cookie, not even by a navigation, and only our own pages may turn a method into
///    another one (docs/design.md "Other sites").
pub(crate) fn decide(facts: Facts, credential: Credential<'_>, access: &Access) -> Decision {
    let open = matches!(facts.target, Target::App { public: true }) || facts.preflight;
    let (session, by_cookie) = match credential {
        Credential::Service => return Decision::Allow,
        Credential::Cookie(session) => (session, true),
        Credential::Token(session) => (session, false),
        Credential::Nothing if open => return Decision::AllowAnonymous,
        Credential::Nothing => return without_session(facts),
    };
    let user = &session.user.id;
    let admitted = access.admits(user, session.organization.as_ref().map(|organization| organization.id.as_str()));
    match (access.ended(user, session.began_at), admitted) {
        (true, _) | (false, false) if open => Decision::AllowAnonymous,
        (true, _) => without_session(facts),
        (false, false) => Decision::NotAdmitted,
        (false, true) if facts.target == Target::Api && by_cookie && !may_call(facts) => Decision::CrossSite,
        (false, true) => Decision::Allow,
    }
}

fn without_session(facts: Facts) -> Decision {
    if facts.door == Door::Public && facts.safe && facts.navigation { Decision::SignIn } else { Decision::NeedsSession }
}

/// Rule 4, for requests with a cookie.
fn may_call(facts: Facts) -> bool {
    match facts.site {
        Site::Ours => true,
        Site::Direct | Site::Unknown => !facts.overrides_method,
        Site::Foreign => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::session;

    fn facts(target: Target) -> Facts {
        Facts {
            door: Door::Public,
            target,
            safe: true,
            navigation: false,
            overrides_method: false,
            preflight: false,
            site: Site::Unknown,
        }
    }

    fn anyone() -> Access {
        Access { anyone: true, ..Access::default() }
    }

    const APP: Target = Target::App { public: false };

    #[test]
    fn without_a_session_only_a_safe_navigation_is_sent_to_sign_in() {
        for (safe, navigation, expected) in [
            (true, true, Decision::SignIn),
            (true, false, Decision::NeedsSession),
            (false, true, Decision::NeedsSession),
            (false, false, Decision::NeedsSession),
        ] {
            for target in [APP, Target::Api, Target::Own] {
                let facts = Facts { safe, navigation, ..facts(target) };
                assert_eq!(decide(facts, Credential::Nothing, &anyone()), expected, "{facts:?}");
            }
        }
        let neighbour = Facts { door: Door::Neighbour, navigation: true, ..facts(Target::Api) };
        assert_eq!(decide(neighbour, Credential::Nothing, &anyone()), Decision::NeedsSession);
    }

    #[test]
    fn public_paths_and_preflights_need_no_session_and_use_one_that_is_there() {
        let public = facts(Target::App { public: true });
        assert_eq!(decide(public, Credential::Nothing, &anyone()), Decision::AllowAnonymous);
        assert_eq!(decide(public, Credential::Cookie(&session(true)), &anyone()), Decision::Allow);
        assert_eq!(decide(public, Credential::Cookie(&session(true)), &Access::default()), Decision::AllowAnonymous);
        let preflight = Facts { preflight: true, safe: false, ..facts(APP) };
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
            for target in [APP, Target::Api, Target::Own] {
                assert_eq!(decide(facts(target), Credential::Cookie(&held), &access), expected, "{access:?}");
                assert_eq!(decide(facts(target), Credential::Token(&held), &access), expected, "{access:?}");
            }
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
        assert_eq!(decide(facts(APP), Credential::Cookie(&held), &after), Decision::NeedsSession);
        assert_eq!(decide(facts(APP), Credential::Cookie(&held), &at), Decision::Allow);
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
            assert_eq!(decide(facts, Credential::Token(&held), &anyone()), Decision::Allow, "{facts:?}");
        }
        assert_eq!(decide(Facts { target: APP, ..foreign }, Credential::Cookie(&held), &anyone()), Decision::Allow);
    }

    #[test]
    fn the_service_identity_needs_no_rule() {
        let facts = Facts { door: Door::Neighbour, ..facts(Target::Api) };
        assert_eq!(decide(facts, Credential::Service, &Access::default()), Decision::Allow);
    }
}
