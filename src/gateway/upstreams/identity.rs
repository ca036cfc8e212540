//! What the app learns about the user, in header fields that no client can set: the identity headers, those of
//! `app.headers`, and the assertion.
//!
//! A client's own fields of these names are stripped, and so are look-alikes. `proxy::headers` strips the fixed names;
//! this module strips those that the configuration adds.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};

use super::assertion::Assertions;
use crate::body::Body;
use crate::framing::reads_as;
use crate::oauth::Grant;
use crate::proxy::AppHeaders;
use crate::proxy::headers::{ASSERTION, FORWARDED_USER, ORGANIZATION_ID, USER, USER_ID, USER_NAME, ascii_value};
use crate::session::Session;

static OURS: [(HeaderName, UserField); 5] = [
    (USER_ID, UserField::Id),
    (USER, UserField::Nid),
    (FORWARDED_USER, UserField::Nid),
    (USER_NAME, UserField::Name),
    (ORGANIZATION_ID, UserField::OrganizationId),
];

/// A fact about a user, and its placeholder in `app.headers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumIter, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum UserField {
    Id,
    Nid,
    /// Known if the key's scopes allow it.
    Name,
    /// Known if the user has one.
    OrganizationId,
}

impl UserField {
    fn of(self, session: &Session) -> Option<HeaderValue> {
        let text = match self {
            Self::Id => Some(&session.user.id),
            Self::Nid => Some(&session.user.nid),
            Self::Name => session.user.name.as_ref(),
            Self::OrganizationId => session.organization.as_ref().map(|organization| &organization.id),
        };
        text.map(|text| ascii_value(text))
    }
}

/// A header of `app.headers`.
#[derive(Clone, Debug)]
pub(crate) struct AddedHeader {
    name: HeaderName,
    /// The name with a hyphen in place of each byte that some server treats like one.
    spelling: String,
    value: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Visible ASCII.
    Text(String),
    Field(UserField),
}

impl AddedHeader {
    pub(crate) fn new(name: HeaderName, value: Vec<Part>) -> Self {
        let spelling = name.as_str().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        Self { name, spelling, value }
    }

    /// Whether some server would treat the field `name` as this one.
    pub(crate) fn is_read_from(&self, name: &HeaderName) -> bool {
        reads_as(name, &self.spelling)
    }

    /// `None` if the session lacks a fact that it uses.
    fn value(&self, session: &Session) -> Option<HeaderValue> {
        let mut bytes = Vec::new();
        for part in &self.value {
            match part {
                Part::Text(text) => bytes.extend_from_slice(text.as_bytes()),
                Part::Field(field) => bytes.extend_from_slice(field.of(session)?.as_bytes()),
            }
        }
        HeaderValue::from_maybe_shared(Bytes::from(bytes)).ok()
    }
}

#[derive(Debug)]
pub(crate) struct IdentityHeaders {
    /// Identity may come from a token of the implicit grant, which may have been issued to another application (token
    /// substitution): `upwork.implicit_identity`.
    implicit: bool,
    added: Vec<AddedHeader>,
    assertions: Option<Assertions>,
}

impl IdentityHeaders {
    pub(crate) fn new(implicit: bool, added: Vec<AddedHeader>, assertions: Option<Assertions>) -> Self {
        Self { implicit, added, assertions }
    }

    /// Strips a client's own fields of the added names.
    pub(super) fn strip(&self, headers: &mut AppHeaders) {
        if !self.added.is_empty() {
            headers.strip_where(|name| self.adds(name));
        }
    }

    /// The same for trailers, which some servers merge into the head. The listener refuses trailers with our fixed
    /// names.
    pub(super) fn strip_trailers(self: &Arc<Self>, body: Body) -> Body {
        if self.added.is_empty() || !body.is_streamed() {
            return body;
        }
        let identity = self.clone();
        body.strip_trailers(move |name| identity.adds(name))
    }

    fn adds(&self, name: &HeaderName) -> bool {
        self.added.iter().any(|added| added.is_read_from(name))
    }

    /// The fields of a session (docs/reference.md "Headers to the app"): none if its identity is not proved.
    pub(in crate::gateway) fn of<'a>(
        &self,
        session: &'a Session,
    ) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<'a> {
        let proved = session.grant != Grant::Implicit || self.implicit;
        let fields = if proved { session.identity.get_or_init(|| self.fields(session)) } else { &[] };
        let assertion = self.assertions.as_ref().filter(|_| proved).and_then(|assertions| assertions.of(session));
        fields.iter().cloned().chain(assertion.map(|assertion| (ASSERTION, assertion)))
    }

    fn fields(&self, session: &Session) -> Vec<(HeaderName, HeaderValue)> {
        let ours = OURS.iter().filter_map(|(name, field)| Some((name.clone(), field.of(session)?)));
        let added = self.added.iter().filter_map(|added| Some((added.name.clone(), added.value(session)?)));
        ours.chain(added).collect()
    }

    /// The keys that verify assertions, if the app gets any.
    pub(in crate::gateway) fn public_keys(&self) -> Option<impl serde::Serialize + use<>> {
        self.assertions.as_ref().map(Assertions::public_keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::session;

    fn added(name: &'static str, value: Vec<Part>) -> AddedHeader {
        AddedHeader::new(HeaderName::from_static(name), value)
    }

    fn names(identity: &IdentityHeaders, session: &Session) -> Vec<String> {
        identity.of(session).map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn a_header_is_left_out_if_the_session_lacks_its_fact() {
        let text = |text: &str| Part::Text(text.to_owned());
        let headers = vec![
            added("x-team", vec![text("tools")]),
            added("x-who", vec![text("u-"), Part::Field(UserField::Nid), text("%")]),
            added("x-name", vec![text("it is "), Part::Field(UserField::Name)]),
        ];
        let identity = IdentityHeaders::new(false, headers, None);
        let mut session = session(true);
        session.user.name = Some("Żółw".to_owned());
        let all = names(&identity, &session);
        assert_eq!(all[3..5], ["x-upwork-user-name: %C5%BB%C3%B3%C5%82w", "x-upwork-organization-id: 2"]);
        assert_eq!(all[5..], ["x-team: tools", "x-who: u-foo%", "x-name: it is %C5%BB%C3%B3%C5%82w"]);
        let mut session = session.clone();
        (session.user.name, session.organization) = (None, None);
        let some = names(&identity, &session);
        assert_eq!(some[..3], ["x-upwork-user-id: 1", "x-upwork-user: foo", "x-forwarded-user: foo"]);
        assert_eq!(some[3..], ["x-team: tools", "x-who: u-foo%"]);
        session.grant = Grant::Implicit;
        assert!(names(&identity, &session).is_empty(), "its identity is not proved");
    }

    #[test]
    fn every_spelling_of_an_added_name_is_recognized() {
        let header = added("x_team-a", vec![Part::Text("x".to_owned())]);
        for name in ["x-team-a", "x_team_a", "x.team~a", "x_team-a"] {
            assert!(header.is_read_from(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["x-team-ab", "x-teamxa", "xx-team-a"] {
            assert!(!header.is_read_from(&HeaderName::from_static(name)), "{name}");
        }
    }
}
