//! The page for everything that did not go as asked.
//!
//! In: what happened, what to do, and the ways on. Out: one page. It names no cause of its own: that is the caller's.

use http::StatusCode;
use minijinja::{Value, context};

use super::{Frame, Page, Shape, render};

const WIPE: &str = "history.replaceState(null, \"\", location.pathname);";

/// What went wrong, for a person.
#[derive(Clone, Debug)]
pub struct ProblemView<'a> {
    /// Prefix and request id.
    pub frame: Frame<'a>,
    /// The status it is sent with.
    pub status: u16,
    /// One short line, no full stop.
    pub title: &'a str,
    /// What happened and why, in sentences; what stands between two backticks is set as code, here and below.
    pub cause: &'a str,
    /// The next step; each line becomes a step of its own.
    pub remedy: &'a str,
    /// The ways on; the first is drawn as the button.
    pub actions: &'a [Action<'a>],
    /// Seconds after which the browser asks again, by GET: only for requests that were GET themselves.
    pub retry_after: Option<u32>,
    /// Takes the query out of the address bar and the tab's history: a callback's holds a code.
    pub wipe_query: bool,
    /// Names and values for whoever is asked for help. Never a secret.
    pub details: &'a [(&'a str, &'a str)],
}

/// A link on a page.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    /// What it says.
    pub label: &'a str,
    /// A path on this host, or an http(s) address; anything else is left out of the page.
    pub href: &'a str,
    /// Opens beside this page, so that what was typed is not lost.
    pub new_tab: bool,
}

impl Action<'_> {
    /// Never `javascript:` nor a path that browsers take for another host.
    fn is_safe(&self) -> bool {
        let path = self.href.starts_with('/') && !self.href.starts_with("//") && !self.href.starts_with("/\\");
        path || self.href.starts_with("https://") || self.href.starts_with("http://")
    }

    fn value(&self) -> Value {
        context! { label => self.label, href => self.href, new_tab => self.new_tab }
    }
}

/// Draws a problem.
pub fn problem(view: &ProblemView<'_>) -> Page {
    let steps: Vec<Value> =
        view.remedy.lines().filter(|line| !line.trim().is_empty()).map(|line| Value::from(spans(line))).collect();
    let actions: Vec<Value> = view.actions.iter().filter(|action| action.is_safe()).map(Action::value).collect();
    let details: Vec<Value> =
        view.details.iter().map(|&(name, value)| context! { name => name, value => value }).collect();
    let reason = StatusCode::from_u16(view.status).ok().and_then(|status| status.canonical_reason());
    let part = context! {
        status => view.status,
        reason => reason.unwrap_or("Error"),
        title => view.title,
        cause => spans(view.cause),
        steps => steps,
        actions => actions,
        retry_after => view.retry_after,
        details => details,
        request_id => view.frame.request_id,
    };
    let script = view.wipe_query.then_some(WIPE);
    render(&view.frame, &Shape { refresh: view.retry_after, script, ..Shape::new(view.title, "problem.html") }, part)
}

/// Cuts a text at its backticks; one without a partner stays a backtick.
fn spans(text: &str) -> Vec<Value> {
    let mut spans = Vec::new();
    let mut rest = text;
    while let Some((before, (code, after))) =
        rest.split_once('`').and_then(|(before, after)| Some((before, after.split_once('`')?)))
    {
        spans.push(context! { code => false, text => before });
        spans.push(context! { code => true, text => code });
        rest = after;
    }
    spans.push(context! { code => false, text => rest });
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_web_become_links() {
        for (href, safe) in [
            ("/upwork/auth/login?return_to=%2Fa", true),
            ("https://tools.example.com/", true),
            ("//evil.example", false),
            ("/\\evil.example", false),
            ("javascript:alert(1)", false),
            ("", false),
        ] {
            assert_eq!(Action { label: "Go", href, new_tab: false }.is_safe(), safe, "{href}");
        }
    }
}
