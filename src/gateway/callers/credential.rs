//! Finds which of our credentials a request to the API carries: a ticket, a personal access token, or none.
//!
//! They are recognized by their prefix, in any spelling. One that cannot be read is bad, never treated as absent
//! (docs/design.md "Credentials"). Decrypts and compares nothing.

use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use crate::fields::Fields;
use crate::proxy::headers::TICKET;

pub(super) const TICKET_PREFIX: &str = "upwt_";
pub(super) const TOKEN_PREFIX: &str = "upwd_";

#[derive(Clone, PartialEq, Eq)]
pub(super) enum OwnCredential {
    /// Any other `Authorization` is ignored and not forwarded.
    Nothing,
    Ticket(Zeroizing<String>),
    Token(Zeroizing<String>),
    /// A malformed ticket, or more than one.
    BadTicket,
    /// A malformed token, more than one, or one beside a ticket.
    BadToken,
}

impl std::fmt::Debug for OwnCredential {
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
pub(super) fn own_credential(headers: &Fields) -> OwnCredential {
    let mut found = OwnCredential::Nothing;
    for line in headers.get_all(AUTHORIZATION) {
        found = both(found, authorization(line.as_bytes()));
    }
    for line in headers.get_all(TICKET) {
        found = both(found, ticket_field(line.as_bytes()));
    }
    found
}

fn both(one: OwnCredential, other: OwnCredential) -> OwnCredential {
    match (one, other) {
        (OwnCredential::Nothing, found) | (found, OwnCredential::Nothing) => found,
        (one, other) if one == other => one,
        (OwnCredential::Ticket(_) | OwnCredential::BadTicket, OwnCredential::Ticket(_) | OwnCredential::BadTicket) => {
            OwnCredential::BadTicket
        }
        (
            OwnCredential::Ticket(_) | OwnCredential::Token(_) | OwnCredential::BadTicket | OwnCredential::BadToken,
            _,
        ) => OwnCredential::BadToken,
    }
}

/// The first word of an `Authorization` line that is one of our tickets or tokens, however it is written.
fn our_token(line: &[u8]) -> Option<&[u8]> {
    let mut words = line.split(|byte| !(byte.is_ascii_alphanumeric() || b"_-.+/~".contains(byte)));
    words.find(|word| word.starts_with(TICKET_PREFIX.as_bytes()) || word.starts_with(TOKEN_PREFIX.as_bytes()))
}

/// Whether `Authorization` has one of our tickets or tokens, which the app must not get.
pub(in crate::gateway) fn is_our_token(headers: &Fields) -> bool {
    headers.get_all(AUTHORIZATION).any(|line| our_token(line.as_bytes()).is_some())
}

/// RFC 6750 section 2.1: `Bearer`, one or more blanks, the token, and nothing else.
fn authorization(line: &[u8]) -> OwnCredential {
    let Some(first) = our_token(line) else { return OwnCredential::Nothing };
    let ticket = first.starts_with(TICKET_PREFIX.as_bytes());
    match std::str::from_utf8(line).ok().and_then(bearer) {
        Some(token) if ticket && token.starts_with(TICKET_PREFIX) => {
            OwnCredential::Ticket(Zeroizing::new(token.to_owned()))
        }
        Some(token) if !ticket && token.starts_with(TOKEN_PREFIX) => {
            OwnCredential::Token(Zeroizing::new(token.to_owned()))
        }
        _ if ticket => OwnCredential::BadTicket,
        _ => OwnCredential::BadToken,
    }
}

fn bearer(text: &str) -> Option<&str> {
    let (scheme, token) = text.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && token.bytes().all(|byte| byte.is_ascii_graphic())).then_some(token)
}

/// Any value of our own field claims to be a ticket.
fn ticket_field(line: &[u8]) -> OwnCredential {
    match std::str::from_utf8(line) {
        Ok(text) if text.starts_with(TICKET_PREFIX) => OwnCredential::Ticket(Zeroizing::new(text.to_owned())),
        _ => OwnCredential::BadTicket,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn read(fields: &[(&'static str, &'static str)]) -> OwnCredential {
        let line = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        own_credential(&fields.iter().copied().map(line).collect())
    }

    fn ticket() -> OwnCredential {
        OwnCredential::Ticket(Zeroizing::new("upwt_a".to_owned()))
    }

    #[test]
    fn our_credentials_are_recognized_and_others_are_ignored() {
        let token = OwnCredential::Token(Zeroizing::new("upwd_a".to_owned()));
        let table: &[(&[(&str, &str)], OwnCredential)] = &[
            (&[], OwnCredential::Nothing),
            (&[("authorization", "Bearer oauth2v2_a")], OwnCredential::Nothing),
            (&[("authorization", "Basic eDp5")], OwnCredential::Nothing),
            (&[("authorization", "Bearer xupwd_a")], OwnCredential::Nothing),
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
    fn one_of_our_credentials_that_cannot_be_read_is_bad() {
        let table: &[(&[(&str, &str)], OwnCredential)] = &[
            (&[("authorization", "upwd_a")], OwnCredential::BadToken),
            (&[("authorization", "Basic upwd_a")], OwnCredential::BadToken),
            (&[("authorization", "Bearer upwd_a, Bearer x")], OwnCredential::BadToken),
            (&[("authorization", "Bearer x, Bearer upwt_a")], OwnCredential::BadTicket),
            (&[("authorization", "Bearer \"upwt_a\"")], OwnCredential::BadTicket),
            (&[("authorization", "Bearer upwd_a"), ("authorization", "Bearer upwd_b")], OwnCredential::BadToken),
            (&[("authorization", "Bearer upwt_b"), ("x-upwork-ticket", "upwt_a")], OwnCredential::BadTicket),
            (&[("authorization", "Bearer upwd_b"), ("x-upwork-ticket", "upwt_a")], OwnCredential::BadToken),
            (&[("x-upwork-ticket", "upwt_a"), ("x-upwork-ticket", "upwt_b")], OwnCredential::BadTicket),
            (&[("x-upwork-ticket", "")], OwnCredential::BadTicket),
            (&[("x-upwork-ticket", "a")], OwnCredential::BadTicket),
        ];
        for (fields, expected) in table {
            assert_eq!(read(fields), *expected, "{fields:?}");
        }
    }

    #[test]
    fn our_tokens_are_recognized_however_they_are_written() {
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
