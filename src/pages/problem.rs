//! The page for every request that upwarden answers with a problem. The caller supplies all texts and links.

use http::StatusCode;
use minijinja::{Value, context};

use super::layout::{Frame, Layout, Page, REMOVE_QUERY};

const COPY: &str = include_str!("copy.js");
const COPY_AND_REMOVE_QUERY: &str = concat!(include_str!("copy.js"), include_str!("remove_query.js"));
const RETRY: &str = include_str!("retry.js");

#[derive(Clone, Debug)]
pub struct ProblemView<'a> {
    pub frame: Frame<'a>,
    /// Shown inside another page of this site.
    pub framed: bool,
    pub status: u16,
    /// One short line, no full stop.
    pub title: &'a str,
    /// What happened and why, in sentences. Text between two backticks is set as code, here and in `remedy`.
    pub cause: &'a str,
    /// What to do, one step per line.
    pub remedy: &'a str,
    /// The links; the first is drawn as the main button.
    pub actions: &'a [Action<'a>],
    /// Seconds after which the browser asks again: only for requests that were a GET themselves.
    pub retry_after: Option<u32>,
    /// Removes the query from the address bar and the tab's history: a callback's query contains a code.
    pub wipe_query: bool,
    /// Names and values for support. Never a secret.
    pub details: &'a [(&'a str, &'a str)],
    /// A text to copy, and what it is.
    pub copy: Option<(&'a str, &'a str)>,
}

#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    pub label: &'a str,
    /// A path on this host, or an http(s) address; anything else is left out of the page.
    pub href: &'a str,
    /// Opens a new tab, so that what was typed is not lost.
    pub new_tab: bool,
}

impl Action<'_> {
    /// Not `javascript:`, nor a path that browsers take for another host.
    fn is_safe(&self) -> bool {
        let path = self.href.starts_with('/') && !self.href.starts_with("//") && !self.href.starts_with("/\\");
        path || self.href.starts_with("https://") || self.href.starts_with("http://")
    }
}

pub fn problem(view: &ProblemView<'_>) -> Page {
    let steps: Vec<Value> =
        view.remedy.lines().filter(|line| !line.trim().is_empty()).map(|line| Value::from(spans(line))).collect();
    let actions: Vec<Value> = (view.actions.iter().filter(|action| action.is_safe()))
        .map(|action| context! { label => action.label, href => action.href, new_tab => action.new_tab })
        .collect();
    let reason = StatusCode::from_u16(view.status).ok().and_then(|status| status.canonical_reason());
    let values = context! {
        status => view.status,
        reason => reason.unwrap_or("Error"),
        title => view.title,
        cause => spans(view.cause),
        steps => steps,
        actions => actions,
        retry_after => view.retry_after,
        copy => view.copy.map(|(label, text)| context! { label => label, text => text }),
        details => view.details.iter().map(|&detail| Value::from(detail)).collect::<Vec<_>>(),
        request_id => view.frame.request_id,
        framed => view.framed,
    };
    let script = match (view.retry_after, view.copy, view.wipe_query) {
        (Some(_), _, _) => Some(RETRY),
        (None, Some(_), false) => Some(COPY),
        (None, Some(_), true) => Some(COPY_AND_REMOVE_QUERY),
        (None, None, true) => Some(REMOVE_QUERY),
        (None, None, false) => None,
    };
    let (connects, framed) = (view.retry_after.is_some(), view.framed);
    let layout =
        Layout { refresh: view.retry_after, script, connects, framed, ..Layout::new(view.title, "problem.html") };
    layout.render(&view.frame, values)
}

/// Splits a text at its backticks; one without a partner stays a backtick.
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
    fn only_http_addresses_and_paths_become_links() {
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
