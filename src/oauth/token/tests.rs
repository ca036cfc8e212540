use super::*;

/// What is sent: the refresh token that stays valid, and a client secret.
const REFRESH_TOKEN: &str = "c0de";
const SECRET: &str = "s3cr+t/=~&%";

fn answer(status: u16, body: &str) -> Result<Tokens, TokenError> {
    let (token, secret) = (RefreshToken::parse(REFRESH_TOKEN.to_owned()).unwrap(), Secret::new(SECRET));
    let request = TokenRequest {
        client: Client { id: "id", secret: &secret, redirect_uri: "" },
        grant: TokenGrant::Refresh(&token),
        sent_at: Timestamp::from_seconds(1000),
    };
    let status = StatusCode::from_u16(status).unwrap();
    request.read(&Response { status, retry_after: None, body: body.into() })
}

#[test]
fn a_grant_is_read_in_every_form_upwork_sends() {
    let table = [
        (r#"{"access_token":"a","refresh_token":"r","token_type":"Bearer","expires_in":86400}"#, "r", 86_400),
        (r#"{"access_token":"a","expires_in":"60"}"#, REFRESH_TOKEN, 60),
        (r#"{"access_token":"a","refresh_token":"","token_type":"bearer"}"#, REFRESH_TOKEN, 86_400),
        (r#"{"access_token":"a","refresh_token":"with a space"}"#, "with a space", 86_400),
        (r#"{"access_token":"a","expires_in":1e300,"more":[]}"#, REFRESH_TOKEN, 366 * 86_400),
        (r#"{"access_token":"a","expires_in":18446744073709551616}"#, REFRESH_TOKEN, 366 * 86_400),
        (r#"{"access_token":"a","expires_in":60.0}"#, REFRESH_TOKEN, 60),
        (r#"{"access_token":"a","expires_in":" 60.0 "}"#, REFRESH_TOKEN, 60),
        (r#"{"access_token":"a","expires_in":0}"#, REFRESH_TOKEN, 0),
    ];
    for (body, refresh, seconds) in table {
        let tokens = answer(200, body).unwrap_or_else(|error| panic!("{body}: {error}"));
        assert_eq!(tokens.refresh.unwrap().expose(), refresh, "{body}");
        assert_eq!(tokens.expires_at, Timestamp::from_seconds(1000 + seconds), "{body}");
    }
}

#[test]
fn an_unreadable_lifetime_loses_no_rotated_refresh_token() {
    for expires_in in ["-1", "\"soon\"", "\"\"", "true", "null", "\"NaN\"", "[]"] {
        let body = format!(r#"{{"access_token":"a","refresh_token":"r","expires_in":{expires_in}}}"#);
        let tokens = answer(200, &body).unwrap_or_else(|error| panic!("{body}: {error}"));
        assert_eq!(tokens.expires_at, Timestamp::from_seconds(1000 + 86_400), "{body}");
    }
}

#[test]
fn transient_errors_differ_from_invalid_responses() {
    for (status, body, kind) in [
        (503, r#"{"error":"temporarily_unavailable"}"#, UnavailableKind::Busy),
        (400, r#"{"error":"temporarily_unavailable"}"#, UnavailableKind::Busy),
        (500, r#"{"error":"server_error"}"#, UnavailableKind::Busy),
        (503, "<html>", UnavailableKind::Busy),
        (429, "", UnavailableKind::Busy),
        (500, "<html>", UnavailableKind::ServerError),
        (502, "", UnavailableKind::ServerError),
        (200, "<html>", UnavailableKind::Invalid),
        (200, r#"{"error":"invalid_grant"}"#, UnavailableKind::Invalid),
    ] {
        let TokenError::Unavailable(unavailable) = answer(status, body).unwrap_err() else { panic!("{body}") };
        assert_eq!(unavailable.kind, kind, "{status} {body}");
        let error = body.split('"').nth(3).unwrap_or_default();
        assert!(unavailable.reason.contains(error), "{unavailable} names {error}");
    }
}

#[test]
fn only_invalid_grant_ends_a_grant() {
    let odd = r#"{"error":"invalid_grant","error_description":["expired"],"error_uri":7}"#;
    for body in [r#"{"error":"invalid_grant"}"#, odd] {
        assert!(matches!(answer(400, body), Err(TokenError::InvalidGrant(_))), "{body}");
    }
    for (status, body) in [(401, r#"{"error":"invalid_client"}"#), (400, r#"{"error":"invalid_request"}"#)] {
        assert!(matches!(answer(status, body), Err(TokenError::Misconfigured(_))), "{body}");
    }
    let unavailable = [
        (500, r#"{"error":"invalid_grant"}"#),
        (429, r#"{"error":"invalid_grant"}"#),
        (403, "<html>Just a moment…</html>"),
        (400, "invalid_grant"),
        (200, "<html>"),
        (200, r#"{"access_token":"a b"}"#),
        (200, r#"{"access_token":"a","token_type":"mac"}"#),
        (200, r#"{"access_token":""}"#),
        (200, ""),
        (302, ""),
    ];
    for (status, body) in unavailable {
        assert!(matches!(answer(status, body), Err(TokenError::Unavailable(_))), "{status} {body}");
    }
}

#[test]
fn an_error_quotes_no_token_from_its_description() {
    let body = r#"{"error":"invalid_grant","error_description":"Token oauth2v2_0123456789abcdef0123456789abcdef\n(code 0123456789abcdef) is expired or revoked or not registered, unauthenticatedorunknown"}"#;
    let TokenError::InvalidGrant(quoted) = answer(400, body).unwrap_err() else { panic!("another error") };
    assert_eq!(quoted, "Token …(code …) is expired or revoked or not registered, unauthenticatedorunknown");
}

#[test]
fn an_error_repeats_nothing_that_was_sent() {
    for (status, error) in [(400, "invalid_grant"), (401, "invalid_client"), (503, "s3cr+t/=~&%"), (400, "c0de")] {
        let description = "secret s3cr+t/=~&%, s3cr%2Bt%2F%3D%7E%26%25, s3c\\u0001r+t/=~&%, code c0de";
        let body = format!(r#"{{"error":"{error}","error_description":"{description}"}}"#);
        let error = answer(status, &body).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("s3c") && !shown.contains("c0de"), "{shown}");
    }
}

#[test]
fn an_error_quotes_no_body() {
    let error = answer(500, r#"{"access_token":"oauth2v2_leak"}"#).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("leak"));
}
