//! What an operator can change about the pages: the name, the logo, the support link and the accent colour. All values
//! have been checked: none makes a page unreadable or loads anything from elsewhere.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::colour::Colour;
use super::logo::Logo;
use super::stylesheet::{self, STYLESHEET};

#[derive(Clone, Debug)]
pub struct Branding {
    /// The app's name, shown instead of ours.
    pub(super) name: Option<String>,
    pub(crate) logo: Option<Logo>,
    pub(super) logo_version: Option<String>,
    pub(super) support: Option<Support>,
    stylesheet: Cow<'static, str>,
    pub(super) stylesheet_version: String,
}

/// Where people get help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Support {
    /// `https:` or `mailto:`.
    pub(crate) href: String,
    pub(crate) text: String,
}

impl Branding {
    pub(crate) fn new(
        name: Option<String>,
        logo: Option<Logo>,
        support: Option<Support>,
        accent: Option<Colour>,
    ) -> Self {
        let stylesheet: Cow<'static, str> = match accent {
            Some(accent) => format!("{STYLESHEET}{}", stylesheet::rules(accent)).into(),
            None => STYLESHEET.into(),
        };
        let stylesheet_version = version(stylesheet.as_bytes());
        let logo_version = logo.as_ref().map(|logo| version(&logo.content));
        Self { name, logo, logo_version, support, stylesheet, stylesheet_version }
    }

    /// The stylesheet, served at `{prefix}/auth/style.css` as `text/css`.
    pub fn stylesheet(&self) -> &str {
        &self.stylesheet
    }
}

impl Default for Branding {
    fn default() -> Self {
        Self::new(None, None, None, None)
    }
}

/// Sixteen characters of base64url that change with a file: the `?v=` of its address.
fn version(content: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, content).as_ref().get(..12).unwrap_or_default())
}
