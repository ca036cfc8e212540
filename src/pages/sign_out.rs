//! The pages around signing out: the question before, and the word after.
//!
//! In: who, and what Upwork said. Out: pages. The question is a form to be posted; nothing ends by being looked at.

use minijinja::context;

use super::{Frame, Page, Shape, render};

/// What became of the tokens at Upwork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Upwork ended them.
    Revoked,
    /// They live on, because a personal access token uses the same grant.
    KeptForTokens,
    /// Upwork could not be told; the access token dies by itself within 24 hours.
    Failed,
    /// Upwork was told, and would not end them; the access token dies by itself within 24 hours.
    Refused,
    /// There was no session to end.
    NoSession,
}

impl Revocation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::KeptForTokens => "kept",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::NoSession => "none",
        }
    }
}

/// After signing out.
#[derive(Clone, Copy, Debug)]
pub struct SignedOutView<'a> {
    /// Prefix and request id.
    pub frame: Frame<'a>,
    /// What became of the tokens.
    pub revocation: Revocation,
    /// All of the user's sessions ended, not this one only.
    pub everywhere: bool,
}

/// Says that the session is over, and what that does and does not mean.
pub fn signed_out(view: &SignedOutView<'_>) -> Page {
    let part = context! {
        prefix => view.frame.prefix,
        revocation => view.revocation.as_str(),
        everywhere => view.everywhere,
    };
    render(&view.frame, &Shape::new("You are signed out", "signed_out.html"), part)
}

/// Before signing out.
#[derive(Clone, Copy, Debug)]
pub struct ConfirmView<'a> {
    /// Prefix and request id.
    pub frame: Frame<'a>,
    /// Who is signed in, by name where it is known.
    pub user: &'a str,
    /// Offers to end every session of the user; only with a store.
    pub everywhere: bool,
}

/// Asks before signing out: a form that posts to `{prefix}/auth/logout`, with `everywhere=1` where that was chosen.
pub fn confirm_sign_out(view: &ConfirmView<'_>) -> Page {
    let part = context! {
        prefix => view.frame.prefix,
        user => view.user,
        everywhere => view.everywhere,
    };
    render(&view.frame, &Shape::new("Sign out?", "confirm_sign_out.html"), part)
}
