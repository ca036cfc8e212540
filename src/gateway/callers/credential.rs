//! What a caller of the API shows in its fields: a ticket, a personal access token, or nothing of ours.
//!
//! In: the fields. Out: [`Shown`]. What is ours is known by its prefix, in whatever way it is written; something of ours that
//! cannot be read is bad, never nothing (docs/design.md "Credentials"). Nothing is opened or compared here.

use http::header::{AUTHORIZATION, HeaderMap};
use zeroize::Zeroizing;

use crate::proxy::headers::TICKET;

/// How a ticket begins.
pub(super) const TICKET_PREFIX: &str = "upwt_";
/// How a personal access token begins.
pub(super) const TOKEN_PREFIX: &str = "upwd_";

/// What was shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Shown {
    /// Nothing of ours: an `Authorization` of another form is dropped and ignored.
    Nothing,
    /// One ticket, with its prefix.
    Ticket(Zeroizing<String>),
    /// One personal access token, with its prefix.
    Token(Zeroizing<String>),
    /// A ticket that is none, or more than one of them.
    BadTicket,
    /// A token that is none, or more than one, or one beside a ticket.
    BadToken,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Ticket(_) => "Ticket(…)",
            Self::Token(_) => "Token(…)",
            Self::BadTicket => "BadTicket",
            Self::BadToken => "BadToken",
        })
    }
}

/// Reads `Authorization` and `X-Upwork-Ticket`; the same ticket in both is one.
pub(super) fn shown(headers: &HeaderMap) -> Shown {
    let mut found = Shown::Nothing;
    for line in headers.get_all(AUTHORIZATION) {
        found = both(found, authorization(line.as_bytes()));
    }
    for line in headers.get_all(TICKET) {
        found = both(found, ticket_field(line.as_bytes()));
    }
    found
}

fn both(one: Shown, other: Shown) -> Shown {
    match (one, other) {
        (Shown::Nothing, found) | (found, Shown::Nothing) => found,
        (one, other) if one == other => one,
        (Shown::Ticket(_) | Shown::BadTicket, Shown::Ticket(_) | Shown::BadTicket) => Shown::BadTicket,
        (Shown::Ticket(_) | Shown::Token(_) | Shown::BadTicket | Shown::BadToken, _) => Shown::BadToken,
    }
}

/// The first word of an `Authorization` line that is a ticket or a token of ours, in whatever way it is written.
fn our_token(line: &[u8]) -> Option<&[u8]> {
    let mut words = line.split(|byte| !(byte.is_ascii_alphanumeric() || b"_-.+/~".contains(byte)));
    words.find(|word| word.starts_with(TICKET_PREFIX.as_bytes()) || word.starts_with(TOKEN_PREFIX.as_bytes()))
}

/// Whether `Authorization` has a ticket or a token of ours, which is not the app's business.
pub(in crate::gateway) fn is_our_token(headers: &HeaderMap) -> bool {
    headers.get_all(AUTHORIZATION).iter().any(|line| our_token(line.as_bytes()).is_some())
}

/// RFC 6750 section 2.1: `Bearer`, one blank or more, the token, and nothing else.
fn authorization(line: &[u8]) -> Shown {
    let Some(first) = our_token(line) else { return Shown::Nothing };
    let ticket = first.starts_with(TICKET_PREFIX.as_bytes());
    match std::str::from_utf8(line).ok().and_then(bearer) {
        Some(token) if ticket && token.starts_with(TICKET_PREFIX) => Shown::Ticket(Zeroizing::new(token.to_owned())),
        Some(token) if !ticket && token.starts_with(TOKEN_PREFIX) => Shown::Token(Zeroizing::new(token.to_owned())),
        _ if ticket => Shown::BadTicket,
        _ => Shown::BadToken,
    }
}

fn bearer(text: &str) -> Option<&str> {
    let (scheme, token) = text.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && token.bytes().all(|byte| byte.is_ascii_graphic())).then_some(token)
}

/// Whatever stands in our own field claims to be a ticket.
fn ticket_field(line: &[u8]) -> Shown {
    match std::str::from_utf8(line) {
        Ok(text) if text.starts_with(TICKET_PREFIX) => Shown::Ticket(Zeroizing::new(text.to_owned())),
        _ => Shown::BadTicket,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(fields: &[(&'static str, &'static str)]) -> Shown {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        shown(&headers)
    }

    fn ticket() -> Shown {
        Shown::Ticket(Zeroizing::new("upwt_a".to_owned()))
    }

    #[test]
    fn what_is_ours_is_known_and_what_is_not_is_nothing() {
        let token = Shown::Token(Zeroizing::new("upwd_a".to_owned()));
        let table: &[(&[(&str, &str)], Shown)] = &[
            (&[], Shown::Nothing),
            (&[("authorization", "Bearer oauth2v2_a")], Shown::Nothing),
            (&[("authorization", "Basic eDp5")], Shown::Nothing),
            (&[("authorization", "Bearer xupwd_a")], Shown::Nothing),
            (&[("authorization", "Bearer upwd_a")], token.clone()),
            (&[("authorization", "bearer  upwd_a")], token),
            (&[("authorization", "Bearer upwt_a")], ticket()),
            (&[("x-upwork-ticket", "upwt_a")], ticket()),
            (&[("x-upwork-ticket", "upwt_a"), ("authorization", "Bearer upwt_a")], ticket()),
            (&[("x-upwork-ticket", "upwt_a"), ("authorization", "Bearer placeholder")], ticket()),
        ];
        for (fields, expected) in table {
            assert_eq!(read(fields), *expected, "{fields:?}");
        }
    }

    #[test]
    fn what_is_ours_and_cannot_be_read_is_bad() {
        let table: &[(&[(&str, &str)], Shown)] = &[
            (&[("authorization", "upwd_a")], Shown::BadToken),
            (&[("authorization", "Basic upwd_a")], Shown::BadToken),
            (&[("authorization", "Bearer upwd_a, Bearer x")], Shown::BadToken),
            (&[("authorization", "Bearer x, Bearer upwt_a")], Shown::BadTicket),
            (&[("authorization", "Bearer \"upwt_a\"")], Shown::BadTicket),
            (&[("authorization", "Bearer upwd_a"), ("authorization", "Bearer upwd_b")], Shown::BadToken),
            (&[("authorization", "Bearer upwt_b"), ("x-upwork-ticket", "upwt_a")], Shown::BadTicket),
            (&[("authorization", "Bearer upwd_b"), ("x-upwork-ticket", "upwt_a")], Shown::BadToken),
            (&[("x-upwork-ticket", "upwt_a"), ("x-upwork-ticket", "upwt_b")], Shown::BadTicket),
            (&[("x-upwork-ticket", "")], Shown::BadTicket),
            (&[("x-upwork-ticket", "a")], Shown::BadTicket),
        ];
        for (fields, expected) in table {
            assert_eq!(read(fields), *expected, "{fields:?}");
        }
    }

    #[test]
    fn our_tokens_are_known_in_whatever_way_they_are_written() {
        for text in [
            "Bearer upwd_abc",
            "bearer  upwt_abc",
            "Bearer\tupwd_abc",
            "upwd_abc",
            "Basic eA==, Bearer upwd_abc",
            "Bearer \"upwd_abc\"",
            "Bearer token=upwd_abc",
            "Bearer upwd_abc\u{e9}",
        ] {
            let headers = [(AUTHORIZATION, HeaderValue::from_bytes(text.as_bytes()).unwrap())].into_iter().collect();
            assert!(is_our_token(&headers), "{text}");
        }
        for text in ["Bearer eyJ.upwd_.x", "Basic dXB3ZF8=", "Bearer xupwd_abc", "Digest upwd"] {
            let headers = [(AUTHORIZATION, HeaderValue::from_static(text))].into_iter().collect();
            assert!(!is_our_token(&headers), "{text}");
        }
    }
}
