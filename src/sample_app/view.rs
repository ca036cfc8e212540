//! The sample app's one page.
//!
//! In: the identity headers, the path asked for, the notes. Out: HTML, every text escaped by the template engine.

use std::sync::LazyLock;

use http::HeaderMap;
use minijinja::{Environment, UndefinedBehavior, Value, context};

/// Who is signed in, as the sidecar's headers say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    name: Option<String>,
    nid: Option<String>,
    id: Option<String>,
    organization: Option<String>,
}

impl Identity {
    /// From `X-Upwork-*`, names percent-decoded.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let read = |name: &str| {
            let text = percent_decoded(headers.get(name)?.as_bytes());
            (!text.is_empty()).then_some(text)
        };
        Self {
            name: read("x-upwork-user-name"),
            nid: read("x-upwork-user"),
            id: read("x-upwork-user-id"),
            organization: read("x-upwork-organization-id"),
        }
    }

    /// The best name there is.
    pub(super) fn shown(&self) -> &str {
        self.name.as_deref().or(self.nid.as_deref()).or(self.id.as_deref()).unwrap_or("nobody")
    }
}

/// Broken escapes stay as they are.
fn percent_decoded(text: &[u8]) -> String {
    percent_encoding::percent_decode(text).decode_utf8_lossy().into_owned()
}

/// What the page shows.
pub(super) struct Page<'a> {
    pub(super) prefix: &'a str,
    pub(super) neighbour: bool,
    pub(super) ticket: bool,
    /// Path and query of the request.
    pub(super) asked: &'a str,
    pub(super) identity: &'a Identity,
    /// Who and what, the newest first.
    pub(super) notes: Vec<(&'a str, &'a str)>,
}

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // One that does not parse is then missing, which every test of the page sees.
    let _ = environment.add_template("page.html", include_str!("page.html"));
    environment
});

impl Page<'_> {
    pub(super) fn html(&self) -> Result<String, minijinja::Error> {
        let notes: Vec<Value> = self.notes.iter().map(|&(who, text)| context! { who => who, text => text }).collect();
        ENVIRONMENT.get_template("page.html")?.render(context! {
            prefix => self.prefix,
            neighbour => self.neighbour,
            ticket => self.ticket,
            asked => self.asked,
            shown => self.identity.shown(),
            signed_in => *self.identity != Identity::default(),
            nid => self.identity.nid.as_deref(),
            id => self.identity.id.as_deref(),
            organization => self.identity.organization.as_deref(),
            notes => notes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_percent_decoded_and_broken_escapes_stay() {
        for (given, read) in [
            ("Ann Lee", "Ann Lee"),
            ("J%C3%BCrgen %E2%98%83", "Jürgen ☃"),
            ("100%", "100%"),
            ("%2", "%2"),
            ("%zz%41", "%zzA"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(percent_decoded(given.as_bytes()), read);
        }
    }

    #[test]
    fn the_best_name_is_shown() {
        let mut headers = HeaderMap::new();
        assert_eq!(Identity::read(&headers).shown(), "nobody");
        headers.insert("x-upwork-user-id", "1".parse().unwrap());
        assert_eq!(Identity::read(&headers).shown(), "1");
        headers.insert("x-upwork-user", "ann".parse().unwrap());
        headers.insert("x-upwork-user-name", "".parse().unwrap());
        assert_eq!(Identity::read(&headers).shown(), "ann");
    }
}
