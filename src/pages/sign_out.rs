//! The pages before and after signing out. The first asks with a form, because a GET must not end a session.

use minijinja::context;

use super::layout::{Frame, Layout, Page};

/// What happened to the tokens at Upwork. Those that were not revoked expire, the access token within 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
pub enum Revocation {
    Revoked,
    /// Not revoked, because a personal access token uses the same grant.
    KeptForTokens,
    /// Not revoked, because another browser of the same user uses the same grant.
    KeptForSessions,
    Failed,
    Refused,
    NoSession,
}

#[derive(Clone, Copy, Debug)]
pub struct SignedOutView<'a> {
    pub frame: Frame<'a>,
    pub revocation: Revocation,
    /// All of the user's sessions ended, not just this one.
    pub everywhere: bool,
}

pub fn signed_out(view: &SignedOutView<'_>) -> Page {
    let revocation: &str = view.revocation.into();
    let values = context! { prefix => view.frame.prefix, revocation, everywhere => view.everywhere };
    Layout::new("You are signed out", "signed_out.html").render(&view.frame, values)
}

#[derive(Clone, Copy, Debug)]
pub struct ConfirmView<'a> {
    pub frame: Frame<'a>,
    /// The name if it is known, else the nid.
    pub user: &'a str,
    /// Offers to end all of the user's sessions; only with a store.
    pub everywhere: bool,
    pub return_to: Option<&'a str>,
}

/// A form that posts to `{prefix}/auth/logout`, with `everywhere=1` if that was chosen.
pub fn confirm_sign_out(view: &ConfirmView<'_>) -> Page {
    let values = context! {
        prefix => view.frame.prefix,
        user => view.user,
        everywhere => view.everywhere,
        return_to => view.return_to,
    };
    let posts_elsewhere = view.return_to.is_some();
    Layout { posts_elsewhere, ..Layout::new("Sign out?", "confirm_sign_out.html") }.render(&view.frame, values)
}
