//! The implicit grant's page: Upwork puts the token behind a `#`, which only a script in the browser can read.
//!
//! In: where to hand the fragment over. Out: a page whose script wipes the fragment from the address bar and from the
//! tab's history, then posts the parameters that the callback knows, each as often as it came, as a form. The token is in
//! no address that the script makes, and no longer in the document once it is sent. The page itself is the same for
//! everybody and holds nothing of the user's. Send it with `Referrer-Policy: same-origin`.

use minijinja::context;

use super::{Frame, Page, Shape, render};

const SCRIPT: &str = include_str!("fragment.js");

/// Where the fragment goes.
#[derive(Clone, Copy, Debug)]
pub struct FragmentView<'a> {
    /// Prefix and request id.
    pub frame: Frame<'a>,
    /// The path it is posted to: `{prefix}/auth/callback`.
    pub callback_path: &'a str,
}

/// Draws the page. A visit without a fragment posts an empty form, which the callback answers as a stale one.
pub fn fragment(view: &FragmentView<'_>) -> Page {
    let part = context! { callback_path => view.callback_path, prefix => view.frame.prefix };
    let shape = Shape { script: Some(SCRIPT), leaves: true, ..Shape::new("Signing you in", "fragment.html") };
    render(&view.frame, &shape, part)
}
