//! The callback page of the implicit grant, whose response comes after the `#`, where only a script can read it.
//!
//! Its script removes the fragment from the address bar and the tab's history, then posts the parameters that the
//! callback knows, repeated ones included. The script never puts the token into an address, and removes it from the
//! document once it is sent. The page is the same for everyone and contains no user data. Send it with
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

/// Without a fragment the script posts an empty form, and the callback answers that the state is unknown.
pub fn fragment(view: &FragmentView<'_>) -> Page {
    let layout =
        Layout { script: Some(SCRIPT), posts_elsewhere: true, ..Layout::new("Signing you in", "fragment.html") };
    layout.render(&view.frame, context! { callback_path => view.callback_path, prefix => view.frame.prefix })
}
