//! Every HTML page that upwarden itself shows.
//!
//! Takes typed views, whose texts may come from strangers, and returns a [`Page`]: the HTML and the
//! `Content-Security-Policy` to send with it. It never reads a request, decides nothing, and writes no text into a page
//! unescaped: the template engine escapes everything but our own scripts.
//!
//! A page loads nothing but our stylesheet and the operator's logo, and works without scripts; the one exception is the page of the implicit
//! grant, which is a script.

mod account;
mod branding;
mod colour;
pub(crate) mod curl;
mod format;
mod fragment;
mod layout;
mod logo;
mod notice;
mod problem;
mod sign_out;
mod stylesheet;
pub(crate) mod texts;

pub use account::{
    AccountView, LastRefresh, NewToken, Organization, Quota, RefreshOutcome, TokenRow, TokensView, User, account,
};
pub use branding::Branding;
pub(crate) use branding::Support;
pub(crate) use colour::Colour;
pub use fragment::{FragmentView, fragment};
pub use layout::{CSP, Frame, Page, csp_with_script};
pub(crate) use logo::Logo;
pub use notice::{NoticeView, notice};
pub use problem::{Action, ProblemView, problem};
pub use sign_out::{ConfirmView, Revocation, SignedOutView, confirm_sign_out, signed_out};
