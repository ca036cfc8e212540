//! The sandbox's own pages: the consent form and short messages. Every text in them is escaped.

use std::sync::LazyLock;

use http::{Response, StatusCode};
use minijinja::{Environment, Value, context};

use super::accounts::{ACCOUNTS, Account};
use super::answers;
use super::paths::{LOGOUT_PATH, STYLE_PATH};
use crate::body::Body;

static PAGES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut pages = Environment::new();
    pages.set_formatter(|out, state, value| match value.as_str() {
        Some(text) => Ok(out.write_str(&escaped(text))?),
        None => minijinja::escape_formatter(out, state, value),
    });
    pages.add_template("page.html", include_str!("page.html")).expect("the page is part of the program");
    pages
});

/// minijinja's own escape also writes `/` as `&#x2f;`, which hides addresses from clients that are not browsers.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

fn render(values: Value) -> String {
    // The page is part of the program and the tests render it, so this does not fail.
    PAGES.get_template("page.html").and_then(|page| page.render(values)).unwrap_or_default()
}

/// What the consent form shows and posts.
pub(super) struct ConsentForm<'a> {
    pub(super) action: &'a str,
    pub(super) client: &'a str,
    pub(super) redirect_uri: &'a str,
    /// Who is signed in to the sandbox in this browser.
    pub(super) known: Option<&'a Account>,
    /// Names and values; empty values are left out.
    pub(super) hidden: [(&'static str, &'a str); 6],
}

pub(super) fn consent(form: &ConsentForm) -> Response<Body> {
    let accounts: Vec<_> = ACCOUNTS
        .iter()
        .map(|account| context! { id => account.id, nid => account.nid, name => account.name(), role => account.role })
        .collect();
    let hidden = form.hidden.iter().filter(|(_, value)| !value.is_empty());
    let values = context! {
        style => STYLE_PATH, logout => LOGOUT_PATH, title => "Let this app use your account?", action => form.action,
        known => form.known.map(Account::name), client => form.client, redirect_uri => form.redirect_uri,
        accounts, chosen => form.known.or(ACCOUNTS.first()).map(|account| account.id),
        hidden => hidden.map(|(name, value)| context! { name => *name, value => *value }).collect::<Vec<_>>(),
    };
    answers::html(StatusCode::OK, render(values))
}

pub(super) fn message(status: StatusCode, text: &str) -> Response<Body> {
    let title = if status.is_success() { "Sandbox" } else { "The sandbox cannot continue" };
    answers::html(status, render(context! { style => STYLE_PATH, title, text }))
}

pub(super) fn style() -> Response<Body> {
    answers::css(include_str!("sandbox.css"))
}

pub(super) fn welcome() -> Response<Body> {
    message(
        StatusCode::OK,
        "This is a local imitation of Upwork. It serves sign-in, tokens, GraphQL and REST at Upwork's own paths. Its \
         control address makes it fail on demand.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_attribute() {
        assert_eq!(escaped("\"><b>&'/"), "&quot;&gt;&lt;b&gt;&amp;&#39;/");
        let page = render(context! { style => "s", title => "<i>", text => "\"<b>" });
        assert!(page.contains("<h1>&lt;i&gt;</h1>") && page.contains("<p>&quot;&lt;b&gt;</p>"), "{page}");
    }
}
