//! The public door's certificates: whether they load, cover the host of `public_url`, and are valid. Browsers check who
//! issued them.

use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use url::Url;

use super::finding::Finding;
use crate::clock::{SharedClock, Timestamp};
use crate::config::Config;
use crate::telemetry::causes;
use crate::tls::{self, CertificateFiles};

/// A certificate that expires sooner gets a warning.
const SOON: Duration = Duration::from_secs(14 * 86_400);

pub(super) fn all(config: &Config, clock: &SharedClock) -> Vec<Finding> {
    const WHAT: &str = "TLS";
    let files = &config.server.certificates;
    if files.is_empty() {
        let text = "the public door is plain HTTP";
        return vec![if config.session.secure {
            Finding::ok(WHAT, format!("{text}; the proxy in front of it has the certificate"))
        } else {
            Finding::ok(WHAT, text)
        }];
    }
    let mut findings: Vec<_> = files.iter().map(|pair| lifetime(pair, clock.now())).collect();
    let host = Url::parse(&config.gateway.public.url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let host = host.unwrap_or_default();
    findings.push(if files.iter().any(|pair| covers(pair, &host)) {
        Finding::ok(WHAT, format!("a certificate covers {host}"))
    } else {
        Finding::fail(
            WHAT,
            format!("no certificate covers {host}"),
            "get one whose names include the host of public_url",
        )
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
    const RENEW: &str = "renew it; a running upwarden loads the new file automatically";
    let file = pair.cert_file.display();
    if let Err(error) = tls::Certificates::load(std::slice::from_ref(pair)) {
        return Finding::fail(WHAT, causes(&error), "name a PEM file with the chain, leaf first, and one with its key");
    }
    let Some(leaf) = leaf(pair) else { return Finding::fail(WHAT, format!("{file} contains no certificate"), RENEW) };
    match valid(&leaf, now) {
        Validity::Valid if valid(&leaf, now.plus(SOON)) == Validity::Valid => {
            Finding::ok(WHAT, format!("{file} is valid for at least two more weeks"))
        }
        Validity::Valid => Finding::warn(WHAT, format!("{file} expires within two weeks"), RENEW),
        Validity::Expired => Finding::fail(WHAT, format!("{file} has expired"), RENEW),
        Validity::NotYet => Finding::fail(
            WHAT,
            format!("{file} is not valid yet"),
            "check this machine's clock, or wait until it is valid",
        ),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Validity {
    Valid,
    Expired,
    NotYet,
}

/// Whether the certificate is valid at this time. Verification without trust anchors always fails, but a wrong time is
/// reported before that (RFC 5280 section 6.1.3).
fn valid(leaf: &CertificateDer<'_>, at: Timestamp) -> Validity {
    let Ok(certificate) = webpki::EndEntityCert::try_from(leaf) else { return Validity::Valid };
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.seconds()).unwrap_or(0)));
    let usage = webpki::KeyUsage::server_auth();
    match certificate.verify_for_usage(&[], &[], &[], at, usage, None, None) {
        Err(webpki::Error::CertExpired { .. }) => Validity::Expired,
        Err(webpki::Error::CertNotValidYet { .. }) => Validity::NotYet,
        Ok(_) | Err(_) => Validity::Valid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_validity_of_a_certificate_is_found_without_its_issuer() {
        let mut parameters = rcgen::CertificateParams::new(vec!["tools.example.com".to_owned()]).unwrap();
        (parameters.not_before, parameters.not_after) =
            (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2026, 3, 1));
        let made = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let at = |text| Timestamp::parse_rfc3339(text).unwrap();
        assert_eq!(valid(made.der(), at("2025-12-31T00:00:00Z")), Validity::NotYet);
        assert_eq!(valid(made.der(), at("2026-02-01T00:00:00Z")), Validity::Valid);
        assert_eq!(valid(made.der(), at("2026-03-02T00:00:00Z")), Validity::Expired);
    }
}
