//! What all pages share: the template around them, the stylesheet and the `Content-Security-Policy`.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::branding::Branding;

/// The policy of a page without scripts: nothing runs, and nothing but our stylesheet is loaded (CSP 3, RFC 9700 4.16).
pub const CSP: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; \
                       frame-ancestors 'none'; base-uri 'none'";

/// Chromium also applies it to every redirect that follows a post (CSP 3, 6.4.2), so a page whose post may redirect to
/// another origin omits it.
const FORM_ACTION: &str = " form-action 'self';";

pub(super) const REMOVE_QUERY: &str = include_str!("remove_query.js");

/// A page and the policy to send with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Page {
    pub html: String,
    pub csp: String,
}

impl std::fmt::Debug for Page {
    /// Without the text: a page may show a new personal access token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Page({} bytes)", self.html.len())
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub prefix: &'a str,
    /// Links the page to the log.
    pub request_id: Option<&'a str>,
    pub branding: &'a Branding,
}

/// [`CSP`] plus permission for exactly this script (CSP 3, 2.3.1 `hash-source`).
pub fn csp_with_script(script: &str) -> String {
    let hash = STANDARD.encode(digest(&SHA256, script.as_bytes()));
    format!("{CSP}; script-src 'sha256-{hash}'")
}

/// Permission for exactly the stylesheet inside a page.
fn style_source(stylesheet: &str) -> String {
    format!("style-src 'sha256-{}'", STANDARD.encode(digest(&SHA256, stylesheet.as_bytes())))
}

/// What differs between pages outside their own templates.
pub(super) struct Layout<'a> {
    pub(super) title: &'a str,
    pub(super) template: &'static str,
    /// Seconds after which the browser asks again by GET.
    pub(super) refresh: Option<u32>,
    pub(super) script: Option<&'static str>,
    /// Its form is answered with a redirect to another origin.
    pub(super) posts_elsewhere: bool,
    /// Pages of this site may show it in a frame, where it is short and its links open in the top window.
    pub(super) framed: bool,
    /// Its script sends requests to this site.
    pub(super) connects: bool,
    /// The server stops after this page, so it cannot serve the stylesheet separately.
    pub(super) inline_style: bool,
}

impl<'a> Layout<'a> {
    pub(super) const fn new(title: &'a str, template: &'static str) -> Self {
        Self {
            title,
            template,
            refresh: None,
            script: None,
            posts_elsewhere: false,
            framed: false,
            connects: false,
            inline_style: false,
        }
    }

    /// Renders the page's own template with `values`, inside the layout.
    pub(super) fn render(&self, frame: &Frame<'_>, values: Value) -> Page {
        let csp = self.script.map_or_else(|| CSP.to_owned(), csp_with_script);
        let csp = if self.posts_elsewhere { csp.replace(FORM_ACTION, "") } else { csp };
        let csp = if self.framed { csp.replace("frame-ancestors 'none'", "frame-ancestors 'self'") } else { csp };
        let csp = if self.connects { format!("{csp}; connect-src 'self'") } else { csp };
        let stylesheet = frame.branding.stylesheet();
        let csp = if self.inline_style { csp.replace("style-src 'self'", &style_source(stylesheet)) } else { csp };
        let html = self.html(frame, values).unwrap_or_else(|_| fallback(self.title));
        Page { html, csp }
    }

    fn html(&self, frame: &Frame<'_>, values: Value) -> Result<String, minijinja::Error> {
        let branding = frame.branding;
        let main = ENVIRONMENT.get_template(self.template)?.render(values)?;
        ENVIRONMENT.get_template("layout.html")?.render(context! {
            title => self.title,
            refresh => self.refresh,
            framed => self.framed,
            // Both are HTML already: one just rendered and escaped, one compiled in.
            main => Value::from_safe_string(main),
            script => self.script.map(|text| Value::from_safe_string(text.to_owned())),
            style => self.inline_style.then(|| Value::from_safe_string(branding.stylesheet().to_owned())),
            prefix => frame.prefix,
            request_id => frame.request_id,
            style_version => &branding.stylesheet_version,
            name => branding.name.as_deref().unwrap_or("upwarden"),
            site => branding.name.as_deref().unwrap_or("this site"),
            logo => &branding.logo_version,
            support => branding.support.as_ref().map(|support| context! { href => &support.href, text => &support.text }),
            version => env!("CARGO_PKG_VERSION"),
        })
    }
}

const TEMPLATES: [(&str, &str); 7] = [
    ("layout.html", include_str!("templates/layout.html")),
    ("problem.html", include_str!("templates/problem.html")),
    ("signed_out.html", include_str!("templates/signed_out.html")),
    ("confirm_sign_out.html", include_str!("templates/confirm_sign_out.html")),
    ("account.html", include_str!("templates/account.html")),
    ("fragment.html", include_str!("templates/fragment.html")),
    ("notice.html", include_str!("templates/notice.html")),
];

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    // A misspelt name is an error that tests catch, not a gap on a page.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    for (name, text) in TEMPLATES {
        // A template that does not parse is left out, and its page is the fallback. `every_template_parses` catches
        // this.
        let _ = environment.add_template(name, text);
    }
    environment
});

/// Shown if a template ever fails. The title is the only text in it.
fn fallback(title: &str) -> String {
    let title: String = title.chars().filter(|c| c.is_alphanumeric() || " .,-".contains(*c)).collect();
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\
         <body><main><h1>{title}</h1><p>upwarden could not render this page. Reload it, or contact the site’s \
         administrator.</p></main></body></html>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_parses() {
        for (name, text) in TEMPLATES {
            let mut environment = Environment::new();
            assert!(environment.add_template(name, text).is_ok(), "{name}");
        }
    }

    #[test]
    fn the_hash_of_a_script_is_the_one_a_browser_computes() {
        // From `printf 'alert(1)' | openssl dgst -sha256 -binary | base64`.
        assert!(
            csp_with_script("alert(1)").ends_with("script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='")
        );
    }

    #[test]
    fn debug_shows_no_text_of_the_page() {
        let page = Page { html: "upwd_secret".to_owned(), csp: CSP.to_owned() };
        assert_eq!(format!("{page:?}"), "Page(11 bytes)");
    }

    #[test]
    fn the_fallback_has_no_markup_of_its_title() {
        assert!(!fallback("<script>x").contains("<script"));
    }
}
