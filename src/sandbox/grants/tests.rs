//! What codes and tokens do over time.

use super::*;
use crate::sandbox::accounts::{ACCOUNTS, SERVICE};

const CLIENT: &str = "0123456789abcdef0123456789abcdef";
const REDIRECT: &str = "http://localhost:3000/callback";
const HOUR: Duration = Duration::from_hours(1);

fn start() -> Timestamp {
    Timestamp::from_seconds(1_795_485_600)
}

fn consent(challenge: Option<Challenge>) -> Consent {
    Consent { account: &ACCOUNTS[0], client: CLIENT.to_owned(), redirect_uri: REDIRECT.to_owned(), challenge }
}

fn shown<'a>(code: &'a Secret, verifier: Option<&'a str>) -> Redemption<'a> {
    Redemption { code: code.expose(), client: CLIENT, redirect_uri: REDIRECT, verifier }
}

fn refresh_token(tokens: &TokenPair) -> &str {
    tokens.refresh_token.expose()
}

#[test]
fn tokens_have_the_length_that_was_set_and_differ() {
    for token_chars in [0, 1, 32, 4001] {
        let config = Config { token_chars, ..Config::default() };
        let issued = Grants::default().open(&ACCOUNTS[0], CLIENT, &config, start());
        assert_eq!(issued.access_token.expose().len(), "oauth2v2_".len() + token_chars);
        assert!(token_chars < 32 || issued.access_token.expose() != refresh_token(&issued));
    }
}

#[test]
fn a_code_is_bound_to_its_client_its_redirect_and_its_time() {
    let (mut grants, config, now) = (Grants::default(), Config::default(), start());
    let code = grants.code(consent(None), &config, now);
    let other = Redemption { client: "other", ..shown(&code, None) };
    assert_eq!(grants.redeem(&other, &config, now).err(), Some(GrantError::Code));
    let other = Redemption { redirect_uri: "http://localhost:3000/callback/", ..shown(&code, None) };
    assert_eq!(grants.redeem(&other, &config, now).err(), Some(GrantError::Code));
    let late = now.plus(config.code_lifetime);
    assert_eq!(grants.redeem(&shown(&code, None), &config, late).err(), Some(GrantError::Code));
    assert!(grants.redeem(&shown(&code, None), &config, now).is_ok());
}

#[test]
fn pkce_is_checked_when_it_was_sent() {
    let (mut grants, config, now) = (Grants::default(), Config::default(), start());
    // RFC 7636 appendix B.
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let hashed = Challenge::S256("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".to_owned());
    let code = grants.code(consent(Some(hashed)), &config, now);
    assert_eq!(grants.redeem(&shown(&code, None), &config, now).err(), Some(GrantError::Verifier));
    assert_eq!(grants.redeem(&shown(&code, Some("wrong")), &config, now).err(), Some(GrantError::Verifier));
    assert!(grants.redeem(&shown(&code, Some(verifier)), &config, now).is_ok());
    let code = grants.code(consent(Some(Challenge::Plain("abc".to_owned()))), &config, now);
    assert!(grants.redeem(&shown(&code, Some("abc")), &config, now).is_ok());
    let code = grants.code(consent(None), &config, now);
    assert_eq!(grants.redeem(&shown(&code, Some("abc")), &config, now).err(), Some(GrantError::Verifier));
}

#[test]
fn a_replaced_refresh_token_works_for_a_day_more() {
    let (mut grants, config, now) = (Grants::default(), Config::default(), start());
    let first = grants.open(&ACCOUNTS[0], CLIENT, &config, now);
    let second = grants.refresh(refresh_token(&first), CLIENT, &config, now).ok().unwrap();
    assert_ne!(refresh_token(&first), refresh_token(&second));
    let soon = now.plus(23 * HOUR);
    assert!(grants.holder(first.access_token.expose(), soon).is_some(), "the old access token lives to its own end");
    let third = grants.refresh(refresh_token(&first), CLIENT, &config, soon).ok().unwrap();
    let later = now.plus(24 * HOUR);
    assert_eq!(grants.refresh(refresh_token(&first), CLIENT, &config, later).err(), Some(GrantError::Refresh));
    assert!(grants.refresh(refresh_token(&second), CLIENT, &config, later).is_ok());
    assert!(grants.refresh(refresh_token(&third), CLIENT, &config, later).is_ok());
}

#[test]
fn a_refresh_token_lives_two_weeks_since_its_last_use() {
    let (mut grants, config, now) = (Grants::default(), Config::default(), start());
    let first = grants.open(&ACCOUNTS[0], CLIENT, &config, now);
    let used = now.plus(13 * 24 * HOUR);
    let second = grants.refresh(refresh_token(&first), CLIENT, &config, used).ok().unwrap();
    assert!(grants.refresh(refresh_token(&second), CLIENT, &config, used.plus(14 * 24 * HOUR)).is_err());
    let third = grants.open(&ACCOUNTS[0], CLIENT, &config, now);
    assert!(grants.refresh(refresh_token(&third), CLIENT, &config, now.plus(14 * 24 * HOUR)).is_err());
}

#[test]
fn in_strict_mode_a_replayed_refresh_token_ends_the_family() {
    let config = Config { strict: true, ..Config::default() };
    let (mut grants, now) = (Grants::default(), start());
    let first = grants.open(&ACCOUNTS[0], CLIENT, &config, now);
    let second = grants.refresh(refresh_token(&first), CLIENT, &config, now).ok().unwrap();
    assert_eq!(grants.refresh(refresh_token(&first), CLIENT, &config, now).err(), Some(GrantError::Refresh));
    assert!(grants.refresh(refresh_token(&second), CLIENT, &config, now).is_err());
    assert!(grants.holder(second.access_token.expose(), now).is_none());
}

#[test]
fn revocation_ends_a_family_by_its_refresh_token_and_one_access_token_by_itself() {
    let (mut grants, config, now) = (Grants::default(), Config::default(), start());
    let first = grants.open(&ACCOUNTS[0], CLIENT, &config, now);
    grants.revoke(refresh_token(&first), "another client");
    assert!(grants.holder(first.access_token.expose(), now).is_some());
    grants.revoke(first.access_token.expose(), CLIENT);
    assert!(grants.holder(first.access_token.expose(), now).is_none());
    let second = grants.refresh(refresh_token(&first), CLIENT, &config, now).ok().unwrap();
    grants.revoke(refresh_token(&first), CLIENT);
    assert!(grants.holder(second.access_token.expose(), now).is_none());
    assert!(grants.refresh(refresh_token(&second), CLIENT, &config, now).is_err());
}

#[test]
fn what_has_ended_is_swept_and_what_lives_is_not() {
    let (mut grants, config, now) = (Grants::default(), Config::default(), start());
    let keeper = grants.open(&ACCOUNTS[0], CLIENT, &config, now);
    for _ in 0..5 * SWEEP_EVERY {
        let _ = grants.access_only(&SERVICE, CLIENT, &config, now);
    }
    let later = now.plus(25 * HOUR);
    for _ in 0..SWEEP_EVERY {
        let token = grants.access_only(&SERVICE, CLIENT, &config, later);
        assert!(grants.holder(token.expose(), later).is_some());
    }
    assert!(grants.access.len() as u64 <= SWEEP_EVERY + 1 && grants.families.len() as u64 <= SWEEP_EVERY + 1);
    assert!(grants.refresh(refresh_token(&keeper), CLIENT, &config, later).is_ok());
}
