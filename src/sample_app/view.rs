//! The sample app's one page. The template engine escapes every text in it.

use std::sync::LazyLock;

use http::HeaderMap;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use percent_encoding::percent_decode;

/// Who is signed in, according to the sidecar's headers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    name: Option<String>,
    nid: Option<String>,
    id: Option<String>,
    organization: Option<String>,
}

impl Identity {
    /// From `X-Upwork-*`; names are percent-encoded.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let read = |name: &str| {
            let text = percent_decode(headers.get(name)?.as_bytes()).decode_utf8_lossy().into_owned();
            (!text.is_empty()).then_some(text)
        };
        Self {
            name: read("x-upwork-user-name"),
            nid: read("x-upwork-user"),
            id: read("x-upwork-user-id"),
            organization: read("x-upwork-organization-id"),
        }
    }

    pub(super) fn shown(&self) -> &str {
        self.name.as_deref().or(self.nid.as_deref()).or(self.id.as_deref()).unwrap_or("nobody")
    }
}

pub(super) struct Page<'a> {
    pub(super) prefix: &'a str,
    pub(super) neighbour: bool,
    pub(super) ticket: bool,
    /// Path and query of the request.
    pub(super) asked: &'a str,
    pub(super) identity: &'a Identity,
    /// Author and text, newest first.
    pub(super) notes: Vec<(&'a str, &'a str)>,
}

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // If it does not parse it is missing, which every test of the page sees.
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
    use http::HeaderName;

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
            let headers =
                HeaderMap::from_iter([(HeaderName::from_static("x-upwork-user-name"), given.parse().unwrap())]);
            assert_eq!(Identity::read(&headers).shown(), read);
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
