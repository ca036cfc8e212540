//! The page at the callback of the implicit grant, whose answer stands after the `#`, where only a script can read it.
//!
//! Its script takes the fragment out of the address bar and of the tab's history, then posts the parameters that the
//! callback knows, as often as each came. The token is in no address that the script makes, and is gone from the document
//! once it is sent. The page is the same for everyone and holds nothing of the user's. Send it with
//! `Referrer-Policy: same-origin`.

use minijinja::context;

use super::layout::{Frame, Layout, Page};

const SCRIPT: &str = include_str!("fragment.js");

#[derive(Clone, Copy, Debug)]
pub struct FragmentView<'a> {
    pub frame: Frame<'a>,
    /// Where the script posts to: `{prefix}/auth/callback`.
    pub callback_path: &'a str,
}

/// Without a fragment the script posts an empty form, which the callback answers as a state that is not ours.
pub fn fragment(view: &FragmentView<'_>) -> Page {
    let layout =
        Layout { script: Some(SCRIPT), posts_elsewhere: true, ..Layout::new("Signing you in", "fragment.html") };
    layout.render(&view.frame, context! { callback_path => view.callback_path, prefix => view.frame.prefix })
}
