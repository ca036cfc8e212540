//! The public door's certificates: do they load, are they for `public_url`, and until when.
//!
//! In: the files that the configuration names. Out: findings. Who vouches for them is the browsers' business and is not
//! looked at.

use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use url::Url;

use super::Finding;
use crate::clock::{SharedClock, Timestamp};
use crate::config::Config;
use crate::telemetry::causes;
use crate::tls::{self, CertificateFiles};

/// A certificate that ends sooner is worth a word.
const SOON: Duration = Duration::from_secs(14 * 86_400);

pub(super) fn all(config: &Config, clock: &SharedClock) -> Vec<Finding> {
    const WHAT: &str = "TLS";
    let files = &config.server.certificates;
    if files.is_empty() {
        let text = "the public door is plain HTTP";
        return vec![if config.session.secure {
            Finding::ok(WHAT, format!("{text}: whatever is in front of it has the certificate"))
        } else {
            Finding::ok(WHAT, text)
        }];
    }
    let mut findings: Vec<_> = files.iter().map(|pair| lifetime(pair, clock.now())).collect();
    let host = Url::parse(&config.gateway.public.url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let host = host.unwrap_or_default();
    findings.push(if files.iter().any(|pair| covers(pair, &host)) {
        Finding::ok(WHAT, format!("a certificate is for {host}"))
    } else {
        Finding::fail(WHAT, format!("no certificate is for {host}"), "get one whose names include public_url's host")
    });
    findings
}

fn leaf(pair: &CertificateFiles) -> Option<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(&pair.cert_file).ok()?.next()?.ok()
}

fn covers(pair: &CertificateFiles, host: &str) -> bool {
    let (Some(leaf), Some(name)) = (leaf(pair), tls::server_name(host)) else { return false };
    webpki::EndEntityCert::try_from(&leaf)
        .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(&name).is_ok())
}

fn lifetime(pair: &CertificateFiles, now: Timestamp) -> Finding {
    const WHAT: &str = "TLS";
    const RENEW: &str = "renew it; a running upwarden takes the new file by itself";
    let file = pair.cert_file.display();
    if let Err(error) = tls::Certificates::load(std::slice::from_ref(pair)) {
        return Finding::fail(WHAT, causes(&error), "name a PEM file with the chain, leaf first, and one with its key");
    }
    let Some(leaf) = leaf(pair) else { return Finding::fail(WHAT, format!("{file} holds no certificate"), RENEW) };
    match valid(&leaf, now) {
        Validity::Yes if valid(&leaf, now.plus(SOON)) == Validity::Yes => {
            Finding::ok(WHAT, format!("{file} is valid, and will be for two weeks and more"))
        }
        Validity::Yes => Finding::warn(WHAT, format!("{file} ends within two weeks"), RENEW),
        Validity::Over => Finding::fail(WHAT, format!("{file} has ended"), RENEW),
        Validity::NotYet => {
            Finding::fail(WHAT, format!("{file} is not valid yet"), "look at this machine's clock, or wait until it is")
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Validity {
    Yes,
    Over,
    NotYet,
}

/// Whether the certificate is valid at this moment. It is verified with nobody to vouch for it, which fails; but a wrong
/// time is told before that (RFC 5280 section 6.1.3).
fn valid(leaf: &CertificateDer<'_>, at: Timestamp) -> Validity {
    let Ok(certificate) = webpki::EndEntityCert::try_from(leaf) else { return Validity::Yes };
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.seconds()).unwrap_or(0)));
    let usage = webpki::KeyUsage::server_auth();
    match certificate.verify_for_usage(&[], &[], &[], at, usage, None, None) {
        Err(webpki::Error::CertExpired { .. }) => Validity::Over,
        Err(webpki::Error::CertNotValidYet { .. }) => Validity::NotYet,
        Ok(_) | Err(_) => Validity::Yes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_certificate_is_told_without_anybody_to_vouch_for_it() {
        let mut parameters = rcgen::CertificateParams::new(vec!["tools.example.com".to_owned()]).unwrap();
        (parameters.not_before, parameters.not_after) =
            (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2026, 3, 1));
        let made = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let at = |text| Timestamp::parse_rfc3339(text).unwrap();
        assert_eq!(valid(made.der(), at("2025-12-31T00:00:00Z")), Validity::NotYet);
        assert_eq!(valid(made.der(), at("2026-02-01T00:00:00Z")), Validity::Yes);
        assert_eq!(valid(made.der(), at("2026-03-02T00:00:00Z")), Validity::Over);
    }
}
