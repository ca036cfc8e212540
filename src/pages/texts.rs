//! The wording of pages and problem documents; `gateway::fault` says when each is shown.
//!
//! Takes at most a measured fact, such as a host; returns a [`Text`]: title, cause and remedy. A text names no secret and
//! never blames the user for a failure of this site or of Upwork.

use std::borrow::Cow;

/// The text of a page, and the `title` and `detail` of a problem document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// One short line, no full stop.
    pub title: &'static str,
    /// What happened and why.
    pub cause: Cow<'static, str>,
    /// What to do, one step per line.
    pub remedy: Cow<'static, str>,
}

const fn text(title: &'static str, cause: &'static str, remedy: &'static str) -> Text {
    Text { title, cause: Cow::Borrowed(cause), remedy: Cow::Borrowed(remedy) }
}

pub(crate) const SIGN_IN: Text = text(
    "Sign in to continue",
    "You are not signed in, or your session has ended.",
    "Sign in with Upwork. You will return to the page you asked for.",
);

pub const SIGN_IN_NOT_SENT: Text = text(
    "Sign in, then send again",
    "Your session has ended, so what you just sent did not reach the app. Nothing was saved, and nothing was sent twice.",
    "Sign in with the button below. It opens a new tab, so this tab keeps what you typed.\n\
     Return to this tab and press the browser’s Back button. Your text should still be in the form.\n\
     Send it again.",
);

pub(crate) const ADDRESS_TOO_LONG: Text = text(
    "Sign in, then reload this page",
    "You are not signed in, and the address of this page is too long to be carried through a sign-in. It is not lost: this \
     tab keeps it.",
    "Sign in with the button below. It opens a new tab.\n\
     Return to this tab and reload it.",
);

pub(crate) const OVERLOADED: Text = text(
    "Too busy right now",
    "This site has reached its limit on open connections, so your request was not passed on.",
    "Try again in a moment.\n\
     If this keeps happening, ask the site’s administrator to raise the limit on open files (`ulimit -n`).",
);

/// `access_denied` (RFC 6749 4.1.2.1).
pub(crate) const DECLINED: Text = text(
    "You declined at Upwork",
    "Upwork asked whether this site may act for you, and the request was declined. You are not signed in, and nothing \
     was stored.",
    "If you declined by mistake, sign in again and allow access.",
);

/// `login_required` and similar errors (`OpenID` Connect Core, section 3.1.2.6).
pub(crate) const UPWORK_NOT_ASKED: Text = text(
    "Upwork needs to ask you first",
    "Upwork did not complete this sign-in, because you first have to sign in at Upwork or give your consent there.",
    "Sign in at Upwork first. Then sign in here again.\n\
     If this happens again, contact the site’s administrator: `upwork.authorize_url` may prevent Upwork from asking.",
);

pub(crate) const BAD_STATE: Text = text(
    "This sign-in did not start here",
    "The answer from Upwork does not match a sign-in that started here, so it was not used. This happens when the \
     sign-in took too long, when its address was bookmarked or copied, or when someone tries to sign you in to their own \
     account.",
    "Sign in again.",
);

pub(crate) const CODE_USED: Text = text(
    "This sign-in was already used",
    "Upwork issues a code that works once and only for a short time, and it says that this code is no longer valid. \
     Reloading a page or going back to it can cause this.",
    "Open the app: you may already be signed in. If not, sign in again.",
);

pub(crate) const UPWORK_UNREACHABLE: Text = text(
    "Upwork cannot be reached",
    "The problem is not on your side. This site asked Upwork to complete your sign-in and got no answer.",
    "Sign in again in a minute.\n\
     If this keeps happening, contact the site’s administrator: `upwarden doctor` shows where the connection fails.",
);

/// The token endpoint or who-am-I answered with HTML, garbage or an incomplete body.
pub(crate) const UPWORK_NONSENSE: Text = text(
    "Upwork’s answer could not be read",
    "The problem is not on your side. Instead of completing your sign-in, Upwork sent something else, most likely an \
     error page or the bot check in front of it.",
    "Sign in again in a minute.\n\
     If this keeps happening, contact the site’s administrator: the log says what arrived, under the request id.",
);

/// The token endpoint or who-am-I answered 500, 502 or 504.
pub(crate) const UPWORK_ERROR: Text = text(
    "Upwork had an error",
    "The problem is not on your side. Upwork answered with an error of its own instead of completing your sign-in.",
    "Sign in again in a minute.\n\
     If this keeps happening, contact the site’s administrator: the log has the status, under the request id.",
);

/// `temporarily_unavailable`, `server_error` and similar errors.
pub(crate) const UPWORK_BUSY: Text = text(
    "Upwork cannot sign you in right now",
    "The problem is not on your side. Upwork says that it cannot complete your sign-in at the moment.",
    "Sign in again in a minute.\n\
     If this keeps happening, contact the site’s administrator: the log has Upwork’s own message, under the request id.",
);

/// `iss` is not the configured one (RFC 9207 section 2.4).
pub(crate) const WRONG_ISSUER: Text = text(
    "This answer came from a different issuer",
    "The problem is not on your side. The server that sent you back here identifies itself as a different issuer from \
     the Upwork that this site expects, so nothing it sent was used.",
    "Sign in again.\n\
     If this happens again, contact the site’s administrator: the log has both names, and `upwork.issuer` may be wrong.",
);

/// `invalid_client`, `unauthorized_client`, a wrong `redirect_uri`.
pub(crate) const KEY_REFUSED: Text = text(
    "Upwork rejected this site’s API key",
    "The problem is not on your side. Upwork does not accept the client id, the secret or the callback address of this \
     site, so no one can sign in.",
    "Contact the site’s administrator: `upwarden doctor` compares them with what Upwork expects.",
);

pub(crate) const TOO_MANY_SIGN_INS: Text = text(
    "Too many sign-ins from your network",
    "More sign-ins were started from your network address in a short time than this site allows.",
    "Wait a minute, then sign in again.",
);

pub(crate) const TOO_MANY_AT_ONCE: Text = text(
    "Too many requests from your network",
    "More requests from your network address are in progress at the same time than this site allows.",
    "Wait a moment, then try again.",
);

pub(crate) const APP_DOWN: Text = text(
    "The app is not responding",
    "This site is up, but the app behind it does not accept connections. The app may be starting, or it may have stopped.",
    "Wait a moment. If the app does not come back, contact its administrator.",
);

pub(crate) const APP_UNTRUSTED: Text = text(
    "The app’s certificate is not trusted",
    "This site is up, but the app behind it has a certificate that is not trusted: its issuer is unknown, it is for a \
     different name, or it has expired.",
    "Contact the site’s administrator: the log has the reason under the request id, and `app.ca_file` sets which issuers \
     are trusted.",
);

pub(crate) const CIRCLE: Text = text(
    "This site forwards requests to itself",
    "Your request was forwarded to the app and arrived back here, because the app’s configured address leads to this site.",
    "Contact the site’s administrator: `app.url` must be the address where the app itself listens, not an address of \
     upwarden or of a proxy in front of it.",
);

pub(crate) const APP_SLOW: Text = text(
    "The app took too long to respond",
    "The app behind this site accepted your request but did not answer in time. It may still be working on it.",
    "Before you send anything again, check whether it was already done.\n\
     If this happens again, contact the app’s administrator.",
);

pub(crate) const STORE_DOWN: Text = text(
    "Sessions are unavailable right now",
    "The store where this site keeps its sessions is not responding. You have not been signed out.",
    "Wait a moment. When the store is back, you can continue where you left off.",
);

pub(crate) const AMBIGUOUS_PATH: Text = text(
    "This address is ambiguous",
    "It contains dots, slashes or escapes that programs interpret differently (such as `..`, `//` or `%2f`), which could \
     be used to get around an access check.",
    "Write the address without them, or go to the start page.",
);

pub(crate) const NOT_FOUND: Text = text(
    "There is nothing here",
    "Addresses that start like this one belong to upwarden, and it has no page at this address.",
    "Check the address for a typo, or go to the start page.",
);

pub(crate) const CROSS_SITE: Text = text(
    "This request came from another site",
    "Your browser says that a page on another site made this request. It was refused, because such a request could act \
     in your name.",
    "Go to the app itself and try again from there.",
);

pub(crate) const CROSS_SITE_LINK: Text = text(
    "Another site sent you here",
    "A page on another site led your browser to this address of Upwork’s API. It was not opened, because such a link \
     could act in your name.",
    "If you expected this, open it from here. Otherwise go to the start page.",
);

pub(crate) fn refused(shown: &str, id: &str) -> Text {
    Text {
        title: "You do not have access to this site",
        cause: format!("You are signed in at Upwork as {shown} (user id {id}), and that account is not allowed here.")
            .into(),
        remedy: "If you have another Upwork account, sign out at Upwork first, then sign in here with that account.\n\
                 Otherwise, ask the site’s administrator for access and give them your user id."
            .into(),
    }
}

pub(crate) fn wrong_host(asked: &str, public_url: &str) -> Text {
    Text {
        title: "This site has a different address",
        cause: format!(
            "The request was for the host {asked}, but this site is {public_url}. A redirect there led back here, so the \
             proxy in front of this site does not pass on the host, or is not trusted to."
        )
        .into(),
        remedy: format!(
            "Open {public_url} directly.\n\
             If you run this site: add the proxy’s address to `public.trusted_proxies`, or configure it to pass on `Host`."
        )
        .into(),
    }
}

pub(crate) fn too_large(bytes: usize) -> Text {
    Text {
        title: "Your sign-in does not fit into cookies",
        cause: format!(
            "This site keeps sessions in cookies. The tokens that Upwork issued need {bytes} bytes, more than fit into five \
             cookies."
        )
        .into(),
        remedy: "Contact the site’s administrator: signing in again does not help.\n\
                 If you run this site: a session store (`store.kind`) keeps the cookie small, whatever the tokens’ length."
            .into(),
    }
}

/// The measured cause of three sign-ins in a row that did not last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Loop {
    /// The cookie that was set did not come back.
    CookieLost,
    /// The cookie was set over plain http, where this browser drops it.
    PlainHttp,
    /// The cookies together, in bytes, were bigger than browsers or a proxy in front accept.
    CookieTooBig(usize),
    /// Clocks differ by these seconds, so that each session has expired when it begins.
    Clock(i64),
    /// The site was opened at this host, and the cookie is for another.
    WrongHost(String),
    /// The keys that seal cookies changed in between, or differ between replicas.
    KeyChanged,
    /// None of these was found.
    Unknown,
}

/// The page at which a loop of sign-ins stops.
pub(crate) fn looped(cause: &Loop) -> Text {
    let (cause, remedy): (Cow<'static, str>, &'static str) = match cause {
        Loop::CookieLost => (
            "Your browser did not send back the cookie that keeps you signed in.".into(),
            "Allow cookies for this site (a private window or an extension may block them), then sign in again.",
        ),
        Loop::PlainHttp => (
            "The site was opened over http, where browsers drop the cookie that keeps you signed in.".into(),
            "Open the site at its https address.\nIf you run this site: `public_url` must be the address in the browser.",
        ),
        Loop::CookieTooBig(bytes) => (
            format!("This site’s cookies add up to {bytes} bytes, more than browsers or the proxy in front accept.").into(),
            "Delete this site’s cookies and sign in again.\n\
             If you run this site: a session store (`store.kind`) keeps the cookie small.",
        ),
        Loop::Clock(seconds) => (
            format!("This site’s clocks differ by {seconds} seconds, so each sign-in has expired when it begins.").into(),
            "Contact the site’s administrator: the clocks of its machines must agree (`upwarden doctor` measures them), and \
             `access.not_before` must not be in the future.",
        ),
        Loop::WrongHost(host) => (
            format!("The site was opened as {host}, but its cookie belongs to a different host name.").into(),
            "Open the site at its own address.\nIf you run this site: `public_url` must be the address in the browser.",
        ),
        Loop::KeyChanged => (
            "The browser sent the cookie back, but this site could not decrypt it: its keys have changed, or its replicas \
             use different ones."
                .into(),
            "Sign in again.\n\
             If you run this site: give every replica the same `session.key_files`, and put new keys before old ones.",
        ),
        Loop::Unknown => (
            "Each sign-in succeeded at Upwork but did not last here, and none of the usual causes was found.".into(),
            "Close the site’s tabs, delete its cookies and sign in again.\n\
             If that does not help, contact the site’s administrator: `upwarden doctor` runs more checks.",
        ),
    };
    Text {
        title: "Sign-in keeps starting over",
        cause: format!("Three sign-ins in a row did not last, so this site stopped trying. {cause}").into(),
        remedy: remedy.into(),
    }
}
