//! The page at `{prefix}/auth/`: who is signed in, until when, what is left of the day's calls, and how to call.
//!
//! In: what the gateway knows of the session, in plain types. Out: one page, with forms that post to
//! `{prefix}/auth/logout` and `{prefix}/auth/tokens`. The only secret it ever shows is a personal access token that was
//! made a moment ago.
//!
//! The forms' fields: sign-out `everywhere=1`; tokens `action=create`, `name`, `expires_in` (seconds, chosen as days),
//! `read_only=1` where ticked; `action=revoke`, `id`.

use minijinja::{Value, context};

use super::curl::{self, Neighbour};
use super::moment::{Moment, thousands};
use super::{Frame, Page, Shape, render};
use crate::clock::Timestamp;
use crate::secret::Secret;

const SCRIPT: &str = include_str!("account.js");

/// The choices of a new token's life in days, at most 365; the second is what POST takes by default.
const DAYS: [u32; 5] = [7, 30, 90, 180, 365];

/// Everything the page shows.
#[derive(Clone, Debug)]
pub struct AccountView<'a> {
    /// Prefix and request id.
    pub frame: Frame<'a>,
    /// The origin of the public door, for curl lines.
    pub public_url: &'a str,
    /// Against which the moments are told.
    pub now: Timestamp,
    /// Who is signed in.
    pub user: User<'a>,
    /// The organization Upwork named.
    pub organization: Option<Organization<'a>>,
    /// `code` or `implicit`.
    pub grant: &'a str,
    /// When the session ends if it is not used.
    pub signed_in_until: Timestamp,
    /// When the access token ends.
    pub token_expires_at: Timestamp,
    /// The last refresh; `None` where there was none.
    pub last_refresh: Option<LastRefresh>,
    /// Offers to end every session of the user; only with a store.
    pub everywhere: bool,
    /// The day's calls to Upwork; `None` where nobody counts.
    pub quota: Option<Quota>,
    /// The neighbour door, and whether it asks for its secret; `None` while it is off.
    pub neighbour: Option<(Neighbour<'a>, bool)>,
    /// A service identity is configured, as which programs next door call without a user.
    pub service: bool,
    /// Personal access tokens; `None` with the cookie store, which cannot keep them.
    pub tokens: Option<TokensView<'a>>,
    /// A token made by the request that this page answers.
    pub new_token: Option<NewToken<'a>>,
}

/// Who is signed in: the ids of docs/upwork.md, all texts.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// `user.name`, where it could be read.
    pub name: Option<&'a str>,
    /// `user.id`, a number as text.
    pub id: &'a str,
    /// `user.nid`, the login name.
    pub nid: &'a str,
}

/// The organization that Upwork acts for by default.
#[derive(Clone, Copy, Debug)]
pub struct Organization<'a> {
    /// Its name, where it could be read.
    pub name: Option<&'a str>,
    /// Its id, a number as text.
    pub id: &'a str,
}

/// When the token was last renewed, and how that went.
#[derive(Clone, Copy, Debug)]
pub struct LastRefresh {
    /// When it was tried.
    pub at: Timestamp,
    /// How it went.
    pub outcome: RefreshOutcome,
}

/// How a refresh went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// A new token came.
    Renewed,
    /// Upwork did not answer, or with something that is no token; it is tried again.
    Unavailable,
    /// Upwork refused our key, not the user's token.
    Misconfigured,
}

impl RefreshOutcome {
    const fn text(self) -> &'static str {
        match self {
            Self::Renewed => "it worked",
            Self::Unavailable => "Upwork did not answer, so it is tried again at the next call",
            Self::Misconfigured => "Upwork refused this site’s key; whoever runs the site has to look at it",
        }
    }
}

/// The day's calls to Upwork, for everybody behind this address together.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Calls left.
    pub left: u64,
    /// Calls in a day.
    pub of: u64,
    /// When the next day begins.
    pub resets_at: Timestamp,
}

/// The user's personal access tokens.
#[derive(Clone, Copy, Debug)]
pub struct TokensView<'a> {
    /// Those that exist, in the order to show.
    pub rows: &'a [TokenRow<'a>],
}

/// One personal access token, never its text.
#[derive(Clone, Copy, Debug)]
pub struct TokenRow<'a> {
    /// What it is revoked by.
    pub id: &'a str,
    /// What its owner called it.
    pub name: &'a str,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When a call last came with it.
    pub last_used_at: Option<Timestamp>,
    /// It may read only.
    pub read_only: bool,
}

/// A token that is shown this once.
#[derive(Clone, Copy, Debug)]
pub struct NewToken<'a> {
    /// What its owner called it.
    pub name: &'a str,
    /// The token.
    pub token: &'a Secret,
}

/// Draws the page. With a [`NewToken`] the answer holds a secret: it must not be cached.
pub fn account(view: &AccountView<'_>) -> Page {
    let prefix = view.frame.prefix;
    let moment = |at| Moment::new(at, view.now).value();
    let part = context! {
        prefix => prefix,
        user => context! { name => view.user.name, id => view.user.id, nid => view.user.nid },
        shown_name => view.user.name.filter(|name| !name.trim().is_empty()).unwrap_or(view.user.nid),
        organization => view.organization.map(|o| context! { name => o.name, id => o.id }),
        implicit => view.grant == "implicit",
        signed_in_until => moment(view.signed_in_until),
        token_expires_at => moment(view.token_expires_at),
        token_ended => view.token_expires_at <= view.now,
        last_refresh => view.last_refresh.map(|last| context! {
            at => moment(last.at),
            text => last.outcome.text(),
            failed => last.outcome != RefreshOutcome::Renewed,
        }),
        everywhere => view.everywhere,
        quota => view.quota.as_ref().map(|quota| quota_part(quota, view.now)),
        neighbour_lines => view.neighbour.map(|(door, secret)| curl::at_neighbour(door, prefix, secret)),
        neighbour_secret => view.neighbour.is_some_and(|(_, secret)| secret),
        service => view.service,
        tokens => view.tokens.map(|tokens| tokens_part(&tokens, view.now)),
        token_line => curl::with_token(view.public_url, prefix, None),
        days => DAYS.map(|days| context! { days => days, seconds => days * 86_400, chosen => days == 30 }),
        new_token => view.new_token.map(|new| context! {
            name => new.name,
            token => new.token.expose(),
            line => curl::with_token(view.public_url, prefix, Some(new.token)),
        }),
    };
    render(&view.frame, &Shape { script: Some(SCRIPT), ..Shape::new("Your account", "account.html") }, part)
}

fn quota_part(quota: &Quota, now: Timestamp) -> Value {
    context! {
        left => quota.left,
        of => quota.of.max(1),
        left_text => thousands(quota.left),
        of_text => thousands(quota.of),
        resets_at => Moment::new(quota.resets_at, now).value(),
    }
}

fn tokens_part(tokens: &TokensView<'_>, now: Timestamp) -> Vec<Value> {
    let moment = |at| Moment::new(at, now).value();
    let row = |row: &TokenRow<'_>| {
        context! {
            id => row.id,
            name => row.name,
            created_at => moment(row.created_at),
            expires_at => moment(row.expires_at),
            expired => row.expires_at <= now,
            last_used_at => row.last_used_at.map(moment),
            read_only => row.read_only,
        }
    };
    tokens.rows.iter().map(row).collect()
}
