//! `app.headers`: additional headers about the user for the app.

use http::HeaderName;
use strum::IntoEnumIterator;

use crate::config::parse::{self, ValueError};
use crate::config::reader::Reader;
use crate::config::schema;
use crate::gateway::{AddedHeader, Part, UserField};
use crate::proxy::headers::{Owner, owner};

const KEY: &str = "app.headers";

pub(super) fn app_headers(reader: &mut Reader) -> Option<Vec<AddedHeader>> {
    let entries = reader.map(KEY)?;
    let count = entries.len();
    let mut headers: Vec<AddedHeader> = Vec::new();
    for (text, value) in entries {
        let read = name(&text).and_then(|name| match headers.iter().find(|known| known.is_read_from(&name)) {
            Some(_) => Err(ValueError::new("is the same header as another one", "keep one of the two")),
            None => Ok(AddedHeader::new(name, template(&value)?)),
        });
        match read {
            Ok(header) => headers.push(header),
            Err(error) => reader.problem(KEY, format!("{} {}", parse::shown(&text), error.why), error.remedy),
        }
    }
    (headers.len() == count).then_some(headers)
}

/// A header that is neither ours nor HTTP's own.
fn name(text: &str) -> Result<HeaderName, ValueError> {
    let name = HeaderName::try_from(text).map_err(|_| {
        ValueError::new("is not the name of a header", "use letters, digits and hyphens, as in X-WEBAUTH-USER")
    })?;
    match owner(name.as_str()) {
        None => Ok(name),
        Some(Owner::Upwarden) => {
            let remedy = "choose another name; docs/reference.md lists the headers that the app always gets";
            Err(ValueError::new("is one of upwarden's own headers", remedy))
        }
        Some(Owner::Http) => Err(ValueError::new("has its own meaning in HTTP", "choose another name")),
    }
}

fn template(text: &str) -> Result<Vec<Part>, ValueError> {
    if text.is_empty() {
        return Err(ValueError::new("has no value", "write a text, or a placeholder such as {nid}"));
    }
    let text = parse::field_value(text)
        .map_err(|error| ValueError::new(format!("{}: {}", parse::shown(text), error.why), error.remedy))?;
    let (mut parts, mut rest) = (Vec::new(), text.as_str());
    while let Some((before, after)) = rest.split_once('{') {
        let (placeholder, after) = after.split_once('}').ok_or_else(|| unknown(after))?;
        let field = placeholder.parse().map_err(|_| unknown(placeholder))?;
        parts.extend([Part::Text(before.to_owned()), Part::Field(field)]);
        rest = after;
    }
    parts.push(Part::Text(rest.to_owned()));
    if parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains('}'))) {
        return Err(ValueError::new("has a } without its {", placeholders()));
    }
    Ok(parts)
}

fn unknown(placeholder: &str) -> ValueError {
    let known = UserField::iter().map(<&'static str>::from);
    let meant = schema::most_similar(placeholder, known, |_| 0.0);
    let remedy = meant.map_or_else(placeholders, |meant| format!("did you mean {{{meant}}}? {}", placeholders()));
    let shown: String = placeholder.chars().take(40).collect();
    ValueError::new(format!("has the placeholder {{{shown}}}, which does not exist"), remedy)
}

fn placeholders() -> String {
    let known: Vec<_> = UserField::iter().map(|field| format!("{{{}}}", <&'static str>::from(field))).collect();
    format!("there are {}, and no other braces", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_text_with_placeholders() {
        let text = |text: &str| Part::Text(text.to_owned());
        assert_eq!(template("tools").unwrap(), [text("tools")]);
        let parts =
            [text("u-"), Part::Field(UserField::Id), text("/"), Part::Field(UserField::OrganizationId), text("")];
        assert_eq!(template("u-{id}/{organization_id}").unwrap(), parts);
        for bad in
            ["", "é", " {nid}", "a\r\nb", "{", "}", "{nid", "nid}", "{}", "{nid}}", "{{nid}}", "{Nid}", "{ nid }"]
        {
            assert!(template(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_placeholder_gets_a_suggestion() {
        for (bad, meant) in
            [("{nidd}", "did you mean {nid}?"), ("{organisation_id}", "did you mean {organization_id}?")]
        {
            let error = template(bad).unwrap_err();
            assert!(error.remedy.contains(meant), "{error:?}");
        }
        let error = template("{email}").unwrap_err();
        assert_eq!(error.remedy, "there are {id}, {nid}, {name}, {organization_id}, and no other braces");
    }

    #[test]
    fn names_of_upwarden_and_of_http_are_refused() {
        for good in ["X-WEBAUTH-USER", "Remote-User", "x_team"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["X-Upwork-User", "x_upwork_role", "Host", "Cookie", "Connection", "X-Forwarded-For", "a b", ""] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
