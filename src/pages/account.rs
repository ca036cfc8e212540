//! The account page at `{prefix}/auth/`: who is signed in and until when, the calls left today, and how to call the API.
//!
//! Its forms post to `{prefix}/auth/logout` (`everywhere=1`) and `{prefix}/auth/tokens` (`action=create` with `name`,
//! `expires_in` in seconds and `scope`, and `read_only=1` if ticked; `action=revoke` with `id`). The only secret it
//! shows is a personal access token that was just created.

use minijinja::{Value, context};

use super::curl::{self, Neighbour};
use super::format::{thousands, time};
use super::layout::{Frame, Layout, Page};
use crate::clock::Timestamp;
use crate::secret::Secret;

const SCRIPT: &str = include_str!("copy.js");

/// The lifetimes in days that the form offers for a new token; the API allows at most 365 and defaults to 30.
const DAYS: [u32; 5] = [7, 30, 90, 180, 365];

#[derive(Clone, Debug)]
pub struct AccountView<'a> {
    pub frame: Frame<'a>,
    /// The origin of the public door, for curl lines.
    pub public_url: &'a str,
    pub now: Timestamp,
    pub user: User<'a>,
    pub organization: Option<Organization<'a>>,
    /// `code` or `implicit`.
    pub grant: &'a str,
    /// When the session ends if it is not used.
    pub signed_in_until: Timestamp,
    pub token_expires_at: Timestamp,
    pub last_refresh: Option<LastRefresh>,
    /// Offers to end all of the user's sessions; only with a store.
    pub everywhere: bool,
    /// Today's calls to Upwork, if they are counted.
    pub quota: Option<Quota>,
    /// The neighbour door if it is on, and whether it asks for its secret.
    pub neighbour: Option<(Neighbour<'a>, bool)>,
    /// A service identity is configured: programs at the neighbour door may call without a user.
    pub service: bool,
    /// Personal access tokens; `None` with the cookie store, which cannot keep them.
    pub tokens: Option<TokensView<'a>>,
    /// A token created by the request that this page answers.
    pub new_token: Option<NewToken<'a>>,
}

/// The ids of docs/upwork.md, all strings.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    pub name: Option<&'a str>,
    pub id: &'a str,
    /// `user.nid`, the login name.
    pub nid: &'a str,
}

#[derive(Clone, Copy, Debug)]
pub struct Organization<'a> {
    pub name: Option<&'a str>,
    pub id: &'a str,
}

#[derive(Clone, Copy, Debug)]
pub struct LastRefresh {
    pub at: Timestamp,
    pub outcome: RefreshOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    Renewed,
    /// Upwork did not answer, or answered without a token. It is retried.
    Unavailable,
    /// Upwork refused our key, not the user's token.
    Misconfigured,
}

impl RefreshOutcome {
    const fn text(self) -> &'static str {
        match self {
            Self::Renewed => "succeeded",
            Self::Unavailable => "Upwork did not answer; the next call tries again",
            Self::Misconfigured => "Upwork rejected this site’s API key; the site’s administrator has to fix it",
        }
    }
}

/// Today's calls to Upwork by everyone behind this address.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    pub left: u64,
    pub of: u64,
    pub resets_at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub struct TokensView<'a> {
    pub rows: &'a [TokenRow<'a>],
    pub app: bool,
}

/// A personal access token, without its text.
#[derive(Clone, Copy, Debug)]
pub struct TokenRow<'a> {
    pub id: &'a str,
    pub name: &'a str,
    /// Its first characters, by which its owner recognizes it; empty for tokens stored without them.
    pub starts_with: &'a str,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
    pub read_only: bool,
    pub opens_api: bool,
    pub opens_app: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct NewToken<'a> {
    pub name: &'a str,
    pub token: &'a Secret,
}

/// With a [`NewToken`] the page holds a secret and must not be cached.
pub fn account(view: &AccountView<'_>) -> Page {
    let prefix = view.frame.prefix;
    let time = |at| time(at, view.now);
    let values = context! {
        prefix => prefix,
        home => "/",
        app => view.frame.branding.name.as_deref().unwrap_or("the app"),
        user => context! { name => view.user.name, id => view.user.id, nid => view.user.nid },
        shown_name => view.user.name.filter(|name| !name.trim().is_empty()).unwrap_or(view.user.nid),
        organization => view.organization.map(|o| context! { name => o.name, id => o.id }),
        implicit => view.grant == "implicit",
        signed_in_until => time(view.signed_in_until),
        token_expires_at => time(view.token_expires_at),
        token_ended => view.token_expires_at <= view.now,
        last_refresh => view.last_refresh.map(|last| context! {
            at => time(last.at),
            text => last.outcome.text(),
            failed => last.outcome != RefreshOutcome::Renewed,
        }),
        everywhere => view.everywhere,
        quota => view.quota.map(|quota| context! {
            left => quota.left,
            of => quota.of.max(1),
            left_text => thousands(quota.left),
            of_text => thousands(quota.of),
            resets_at => time(quota.resets_at),
        }),
        neighbour_lines => view.neighbour.map(|(door, secret)| curl::at_neighbour(door, prefix, secret)),
        neighbour_secret => view.neighbour.is_some_and(|(_, secret)| secret),
        service => view.service,
        tokens => view.tokens.map(|tokens| tokens.rows.iter().map(|row| token(row, view.now)).collect::<Vec<_>>()),
        app_tokens => view.tokens.is_some_and(|tokens| tokens.app),
        token_line => curl::with_token(view.public_url, prefix, None),
        days => DAYS.map(|days| context! { days => days, seconds => days * 86_400, chosen => days == 30 }),
        new_token => view.new_token.map(|new| context! {
            name => new.name,
            token => new.token.expose(),
            line => curl::with_token(view.public_url, prefix, Some(new.token)),
        }),
    };
    let layout = Layout { script: Some(SCRIPT), ..Layout::new("Your account", "account.html") };
    layout.render(&view.frame, values)
}

fn token(row: &TokenRow<'_>, now: Timestamp) -> Value {
    context! {
        id => row.id,
        name => row.name,
        starts_with => row.starts_with,
        created_at => time(row.created_at, now),
        expires_at => time(row.expires_at, now),
        expired => row.expires_at <= now,
        last_used_at => row.last_used_at.map(|at| time(at, now)),
        read_only => row.read_only,
        opens => match (row.opens_api, row.opens_app) {
            (true, true) => "API and app",
            (false, true) => "app",
            (_, false) => "",
        },
    }
}
