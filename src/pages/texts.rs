//! What the pages and the problem documents say, case by case.
//!
//! In: at most a measured fact, such as a host. Out: a [`Text`]: a title, the cause, the next step. It names nothing
//! secret and blames nobody who did nothing wrong.

use std::borrow::Cow;

/// What happened and what to do, for a person and for the `detail` of a problem document alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// One short line, no full stop.
    pub title: &'static str,
    /// What happened and why.
    pub cause: Cow<'static, str>,
    /// What to do; each line is a step of its own.
    pub remedy: Cow<'static, str>,
}

const fn text(title: &'static str, cause: &'static str, remedy: &'static str) -> Text {
    Text { title, cause: Cow::Borrowed(cause), remedy: Cow::Borrowed(remedy) }
}

/// No session, and nothing that could be lost.
pub(crate) const SIGN_IN: Text = text(
    "Sign in to continue",
    "You are not signed in, or your session has ended.",
    "Sign in with Upwork. You come back to the page you asked for.",
);

/// No session, and a request that carried something: it was not passed on.
pub const SIGN_IN_NOT_SENT: Text = text(
    "Sign in, then send again",
    "Your session has ended, so what you just sent did not reach the app. Nothing was saved, and nothing was sent twice.",
    "Sign in with the button below; it opens in another tab, so that this one keeps what you typed.\n\
     Come back to this tab and press the browser’s Back button: your text should still be in the form.\n\
     Send it again.",
);

/// Every file descriptor that connections may have is taken.
pub(crate) const OVERLOADED: Text = text(
    "Too busy just now",
    "Everything that the system grants this proxy for connections is in use. Your request was not passed on.",
    "Try again in a moment.\nIf it goes on, whoever runs this site can raise `ulimit -n`.",
);

/// `access_denied` (RFC 6749 4.1.2.1).
pub(crate) const DECLINED: Text = text(
    "You said no at Upwork",
    "Upwork asked whether this site may act for you, and the answer was no. You are not signed in, and nothing was kept.",
    "If that was a slip, sign in again and allow it. Otherwise just close this page.",
);

/// `login_required` and its like (`OpenID` Connect Core, section 3.1.2.6).
pub(crate) const UPWORK_NOT_ASKED: Text = text(
    "Upwork has to ask you first",
    "Upwork did not let this sign-in through, since you have to sign in there, or to agree to something, before.",
    "Open Upwork in another tab and sign in there. Then sign in here again.\n\
     If it ends here again, tell whoever runs this site: `upwork.authorize_url` may forbid Upwork to ask.",
);

/// A state that was never ours.
pub(crate) const BAD_STATE: Text = text(
    "This sign-in did not begin here",
    "The answer from Upwork does not belong to a sign-in that this browser began. A copied or forwarded address does \
     this; so does somebody who wants you to work in their account. It was not used.",
    "Sign in again from here.",
);

/// The code was redeemed before, or ran out (`invalid_grant`).
pub(crate) const CODE_USED: Text = text(
    "This sign-in was used already",
    "Upwork gives out a code that works once and for a short while, and says that this one is spent. Reloading the page \
     or pressing Back does that.",
    "Open the app: you may be signed in. If not, sign in again.",
);

/// The token endpoint could not be reached, or not in time.
pub(crate) const UPWORK_UNREACHABLE: Text = text(
    "Upwork cannot be reached",
    "You did everything right. This site then asked Upwork to finish your sign-in and got no answer.",
    "Sign in again in a minute.\n\
     If it goes on, tell whoever runs this site: `upwarden doctor` shows where the connection ends.",
);

/// The token endpoint or who-am-I answered with something that is no answer: HTML, garbage, a cut.
pub(crate) const UPWORK_NONSENSE: Text = text(
    "Upwork’s answer made no sense",
    "You did everything right. Upwork answered this site with something that is no sign-in: mostly its error page, or \
     the check for robots in front of it.",
    "Sign in again in a minute.\n\
     If it goes on, tell whoever runs this site: the log names what came, under the request id.",
);

/// `temporarily_unavailable`, `server_error` and their like.
pub(crate) const UPWORK_BUSY: Text = text(
    "Upwork cannot do this just now",
    "You did everything right. Upwork says that it cannot finish your sign-in at the moment.",
    "Sign in again in a minute.\n\
     If it goes on, tell whoever runs this site: the log has Upwork’s own words, under the request id.",
);

/// `iss` is not the configured one (RFC 9207 section 2.4).
pub(crate) const WRONG_ISSUER: Text = text(
    "This answer came from elsewhere",
    "You did everything right. What sent you back here calls itself by another name than the Upwork that this site works \
     with, so nothing that came with it was used.",
    "Sign in again.\n\
     If it ends here again, tell whoever runs this site: the log has both names, and `upwork.issuer` may be misspelt.",
);

/// `invalid_client`, `unauthorized_client`, a wrong `redirect_uri`.
pub(crate) const KEY_REFUSED: Text = text(
    "Upwork refuses this site’s key",
    "You did everything right. Upwork does not accept the client id, the secret or the callback address that this site \
     shows, so nobody can sign in.",
    "Tell whoever runs this site: `upwarden doctor` compares them with what Upwork expects.",
);

/// Too many sign-ins from one address.
pub(crate) const TOO_MANY_SIGN_INS: Text = text(
    "Too many sign-ins from your network",
    "More sign-ins were begun from your address in a short time than this site allows.",
    "Wait a minute, then sign in again.",
);

/// One address has too many requests under way.
pub(crate) const TOO_MANY_AT_ONCE: Text = text(
    "Too many requests from your network",
    "More requests are under way from your address at the same time than this site allows.",
    "Wait a moment, then try again.",
);

/// The app did not take the connection.
pub(crate) const APP_DOWN: Text = text(
    "The app is not answering",
    "This site’s front door is fine, but the app behind it does not accept connections. It is starting, or it has \
     stopped.",
    "Wait a moment. If it stays like this, tell whoever runs the app.",
);

/// TLS to the app failed.
pub(crate) const APP_UNTRUSTED: Text = text(
    "The app cannot prove who it is",
    "This site’s front door is fine, but the app behind it shows a certificate that is not trusted: an unknown issuer, \
     another name, or one that has ended.",
    "Tell whoever runs this site; the log names the cause under the request id, and app.ca_file what is trusted.",
);

/// `app.url` leads back to this very process.
pub(crate) const CIRCLE: Text = text(
    "This site goes round in a circle",
    "Your request was passed on to the app and came back here, since the app’s address leads to this very site.",
    "Tell whoever runs this site: `app.url` has to name where the app itself listens, not a door of upwarden nor what stands in front of it.",
);

/// The app took the request and did not answer in time.
pub(crate) const APP_SLOW: Text = text(
    "The app took too long",
    "The app behind this site accepted your request and did not answer in time. It may still be at work on it.",
    "Before you send anything again, look whether it was done.\n\
     If it happens again, tell whoever runs the app.",
);

/// The session store does not answer.
pub(crate) const STORE_DOWN: Text = text(
    "Sessions cannot be read right now",
    "The place where this site keeps its sessions does not answer. You have not been signed out.",
    "Wait: as soon as it is back, you go on where you were.",
);

/// A path with two readings under our prefix.
pub(crate) const AMBIGUOUS_PATH: Text = text(
    "This address can be read in two ways",
    "It has dots, slashes or escapes that different programs understand differently (such as `..`, `//` or `%2f`), and \
     here that could lead past a check.",
    "Write the address plainly, or go to the start.",
);

/// Nothing of ours is at this path.
pub(crate) const NOT_FOUND: Text = text(
    "There is nothing here",
    "Addresses that begin like this one belong to upwarden, and it has no page of this name.",
    "Check the address for a typing mistake, or go to the start.",
);

/// The cross-site guard said no.
pub(crate) const CROSS_SITE: Text = text(
    "This request came from another site",
    "Your browser says that another site’s page made this request. Done with your session, it could act in your name, \
     so it was refused.",
    "Go to the app itself and do it from there.",
);

/// Signed in at Upwork, but not let in here. `shown` is the name or nid, `id` is `user.id`.
pub(crate) fn refused(shown: &str, id: &str) -> Text {
    Text {
        title: "You may not enter here",
        cause: format!(
            "You are signed in at Upwork as {shown} (user id {id}), and this site does not let that account in."
        )
        .into(),
        remedy: "If you have another Upwork account: sign out at Upwork first, then sign in here with that one.\n\
                 Otherwise ask whoever runs this site to let you in, and give them your user id."
            .into(),
    }
}

/// Asked for at a host that is not this site's, and a redirect did not help.
pub(crate) fn wrong_host(asked: &str, public_url: &str) -> Text {
    Text {
        title: "This site has another name",
        cause: format!(
            "The request came in for the host {asked}, but this site is {public_url}. Sending you there led back here, \
             so the proxy in front does not pass the host on, or is not trusted to."
        )
        .into(),
        remedy: format!(
            "Open {public_url} itself.\n\
             If you run this site: list the proxy’s address in `public.trusted_proxies`, or have it pass `Host` on."
        )
        .into(),
    }
}

/// Why a sign-in went round three times, as measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Loop {
    /// The cookie that was set did not come back.
    CookieLost,
    /// The cookie was set in plain http, where this browser drops it.
    PlainHttp,
    /// The cookies together were bigger than browsers or a proxy in front take; bytes.
    CookieTooBig(usize),
    /// Clocks differ, so that each session is over as it begins; seconds.
    Clock(i64),
    /// It was asked for at this host, and the cookie is for another.
    WrongHost(String),
    /// The keys that seal cookies changed on the way, or differ between replicas.
    KeyChanged,
    /// None of these was seen.
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
            "Open the site by its https address.\nIf you run it: `public_url` must be the address in the browser.",
        ),
        Loop::CookieTooBig(bytes) => (
            format!("The cookies of this site came to {bytes} bytes, more than browsers or the proxy in front take.").into(),
            "Delete this site’s cookies and sign in again.\nIf you run it: a store (`store.kind`) keeps the cookie small.",
        ),
        Loop::Clock(seconds) => (
            format!("Clocks of this site differ by {seconds} seconds, so that each sign-in is over as it begins.").into(),
            "Tell whoever runs this site to set the clocks of its machines (`upwarden doctor` measures them), and to look \
             whether `access.not_before` lies ahead.",
        ),
        Loop::WrongHost(host) => (
            format!("The site was opened as {host}, and its cookie belongs to another name.").into(),
            "Open the site by its own address.\nIf you run it: `public_url` must be the address in the browser.",
        ),
        Loop::KeyChanged => (
            "The cookie came back, but could not be opened: the site’s keys changed, or its replicas have different ones.".into(),
            "Sign in again.\nIf you run it: give every replica the same `session.key_files`, and add new keys in front of old ones.",
        ),
        Loop::Unknown => (
            "Each sign-in went well at Upwork, and none of them held here. What the usual causes leave behind was not seen.".into(),
            "Close the site’s tabs, delete its cookies and sign in again.\nIf that does not help, tell whoever runs this \
             site: `upwarden doctor` looks further.",
        ),
    };
    Text {
        title: "Signing in goes round in circles",
        cause: format!("Three sign-ins in a row ended where they began, so this stops here. {cause}").into(),
        remedy: remedy.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_has_a_cause_and_a_next_step() {
        let fixed = [
            SIGN_IN,
            SIGN_IN_NOT_SENT,
            DECLINED,
            UPWORK_NOT_ASKED,
            UPWORK_BUSY,
            WRONG_ISSUER,
            BAD_STATE,
            CODE_USED,
            UPWORK_UNREACHABLE,
            UPWORK_NONSENSE,
            KEY_REFUSED,
            TOO_MANY_SIGN_INS,
            TOO_MANY_AT_ONCE,
            APP_DOWN,
            APP_UNTRUSTED,
            APP_SLOW,
            CIRCLE,
            STORE_DOWN,
            AMBIGUOUS_PATH,
            NOT_FOUND,
            CROSS_SITE,
        ];
        let loops = [
            Loop::CookieLost,
            Loop::PlainHttp,
            Loop::CookieTooBig(9000),
            Loop::Clock(600),
            Loop::WrongHost("svc".to_owned()),
            Loop::KeyChanged,
            Loop::Unknown,
        ];
        let made = [refused("Ann", "1"), wrong_host("svc", "https://tools.example.com")];
        for text in fixed.into_iter().chain(loops.iter().map(looped)).chain(made) {
            assert!(!text.title.ends_with('.') && text.title.len() < 50, "{}", text.title);
            assert!(text.cause.ends_with('.'), "{}", text.cause);
            assert!(text.remedy.lines().all(|line| line.ends_with('.')), "{}", text.remedy);
        }
    }
}
