//! All uses of rustls: the crypto provider, certificates by SNI, and what clients trust.
//!
//! Turns PEM files into server and client configurations. Never logs a key, and installs no process-wide default.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, DnsName, PrivateKeyDer, ServerName, UnixTime};

/// One certificate chain and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub cert_file: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key_file: PathBuf,
}

impl CertificateFiles {
    pub(crate) fn both(&self) -> [&PathBuf; 2] {
        [&self.cert_file, &self.key_file]
    }
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path} as PEM")]
    Pem {
        path: PathBuf,
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    #[error("{0} contains no certificate")]
    Empty(PathBuf),
    #[error("the key in {key} does not belong to the certificate in {path}")]
    Mismatch { path: PathBuf, key: PathBuf },
    #[error("the certificate in {path} cannot be used")]
    Unusable {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    /// No usable parameters: an error in the build.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = |source| Error::Pem { path: path.to_owned(), source };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path).map_err(pem)?.collect::<Result<_, _>>().map_err(pem)?;
    if chain.is_empty() { Err(Error::Empty(path.to_owned())) } else { Ok(chain) }
}

/// The certificates of a door, chosen by the name the client asks for (SNI, RFC 6066 section 3).
#[derive(Debug)]
pub(crate) struct Certificates {
    keys: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

impl Certificates {
    /// Loads every pair. The first one is also for clients that name no host or an unknown one.
    pub(crate) fn load(files: &[CertificateFiles]) -> Result<Self, Error> {
        let provider = provider();
        let mut keys = Vec::with_capacity(files.len());
        for pair in files {
            let key = pair.load(&provider)?;
            let names = key.cert.first().map(dns_names).unwrap_or_default();
            keys.push((names, Arc::new(key)));
        }
        Ok(Self { keys })
    }

    /// When the first of the leaves expires, in seconds since 1970.
    pub(crate) fn expiry(&self) -> Option<u64> {
        self.keys.iter().filter_map(|(_, key)| not_after(key.cert.first()?)).min()
    }
}

impl CertificateFiles {
    /// What is wrong with them.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.load(&provider()).map(drop)
    }

    fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
        let chain = certificates(&self.cert_file)?;
        let key = PrivateKeyDer::from_pem_file(&self.key_file)
            .map_err(|source| Error::Pem { path: self.key_file.clone(), source })?;
        CertifiedKey::from_der(chain, key, provider).map_err(|source| {
            if source == rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch) {
                return Error::Mismatch { path: self.cert_file.clone(), key: self.key_file.clone() };
            }
            Error::Unusable { path: self.cert_file.clone(), source }
        })
    }
}

fn dns_names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(leaf) else { return Vec::new() };
    certificate.valid_dns_names().map(str::to_ascii_lowercase).collect()
}

/// Verification without trust anchors always fails, but a wrong time is reported before that (RFC 5280 section 6.1.3).
fn not_after(leaf: &CertificateDer<'_>) -> Option<u64> {
    let certificate = webpki::EndEntityCert::try_from(leaf).ok()?;
    let (end_of_time, usage) = (UnixTime::since_unix_epoch(Duration::MAX), webpki::KeyUsage::server_auth());
    match certificate.verify_for_usage(&[], &[], &[], end_of_time, usage, None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => Some(not_after.as_secs()),
        Ok(_) | Err(_) => None,
    }
}

fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        // A wildcard matches exactly one label (RFC 6125 section 6.4.3).
        Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => pattern == name,
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().map(str::to_ascii_lowercase);
        let named = asked
            .as_deref()
            .and_then(|asked| self.keys.iter().find(|(names, _)| names.iter().any(|name| covers(name, asked))));
        named.or_else(|| self.keys.first()).map(|(_, key)| key.clone())
    }
}

/// A server's configuration: TLS 1.2 and 1.3, no client certificates, `h2` and `http/1.1` by ALPN (RFC 7301).
pub(crate) fn server(certificates: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Where Linux distributions keep all trusted roots in one file. The folder beside it has the same roots in single
/// files.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// The system's roots, or webpki's if the system has none; read once.
static ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let chosen = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().any(|name| std::env::var_os(name).is_some());
    let bundle = BUNDLES.into_iter().map(Path::new).find(|bundle| !chosen && bundle.is_file());
    let found = match bundle {
        Some(bundle) => rustls_native_certs::load_certs_from_paths(Some(bundle), None),
        None => rustls_native_certs::load_native_certs(),
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Arc::new(roots)
});

/// A client's configuration: it trusts `ca_file` and the system's roots, and presents `own` to a server that asks for a
/// certificate. It offers no ALPN.
pub(crate) fn client(ca_file: Option<&Path>, own: Option<&CertificateFiles>) -> Result<ClientConfig, Error> {
    let mut roots = ROOTS.clone();
    let mut named = Vec::new();
    if let Some(path) = ca_file {
        named = certificates(path)?;
        for certificate in &named {
            Arc::make_mut(&mut roots)
                .add(certificate.clone())
                .map_err(|source| Error::Unusable { path: path.to_owned(), source })?;
        }
    }
    let trust = Trust::new(roots, named).map_err(|error| rustls::Error::General(error.to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(trust));
    Ok(match own {
        None => builder.with_no_client_auth(),
        Some(files) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(files.load(&provider())?))),
    })
}

/// Trusts what webpki trusts, and a server whose own certificate is in `ca_file`: `openssl req -x509` makes a
/// certificate that is its own CA, which webpki does not accept from a server (RFC 5280 section 4.2.1.9).
#[derive(Debug)]
struct Trust {
    webpki: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl Trust {
    fn new(roots: Arc<RootCertStore>, own: Vec<CertificateDer<'static>>) -> Result<Self, VerifierBuilderError> {
        let webpki = WebPkiServerVerifier::builder_with_provider(roots, provider()).build()?;
        Ok(Self { webpki, own })
    }
}

const UNTRUSTED: &str = "the certificate is self-signed and not trusted; add it to a ca_file to trust it";

/// webpki checks a certificate's validity period before its use, so a certificate refused as a CA is valid now.
fn is_its_own_ca(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.webpki.verify_server_cert(leaf, chain, name, ocsp, now) {
            Err(error) if is_its_own_ca(&error) && self.own.contains(leaf) => {
                rustls::client::verify_server_name(&rustls::server::ParsedCertificate::try_from(leaf)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            Err(error) if is_its_own_ca(&error) => Err(rustls::Error::General(UNTRUSTED.to_owned())),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Whether a connection failed because of the server's certificate.
pub(crate) fn is_distrust(error: &std::io::Error) -> bool {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => true,
        Some(rustls::Error::General(why)) => why == UNTRUSTED,
        _ => false,
    }
}

/// The name a client checks a certificate against; `None` if the host is neither a name nor an address.
pub(crate) fn server_name(host: &str) -> Option<ServerName<'static>> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => Some(ServerName::from(address)),
        Err(_) => DnsName::try_from(host.to_owned()).ok().map(ServerName::DnsName),
    }
}

/// Whether SNI can carry it: SNI names have no final dot (RFC 6066 section 3).
pub(crate) fn is_dns_name(text: &str) -> bool {
    !text.ends_with('.') && matches!(server_name(text), Some(ServerName::DnsName(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expiry_of_certificates_is_that_of_the_first_leaf_to_expire() {
        let folder = tempfile::tempdir().unwrap();
        let files = |name: &str, year| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(["app.internal".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let at = |kind: &str| folder.path().join(format!("{name}.{kind}"));
            std::fs::write(at("crt"), params.self_signed(&key).unwrap().pem()).unwrap();
            std::fs::write(at("key"), key.serialize_pem()).unwrap();
            CertificateFiles { cert_file: at("crt"), key_file: at("key") }
        };
        let loaded = Certificates::load(&[files("one", 2040), files("other", 2030)]).unwrap();
        assert_eq!(loaded.expiry(), Some(1_893_456_000));
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        assert!(covers("*.example.com", "a.example.com"));
        assert!(!covers("*.example.com", "a.b.example.com"));
        assert!(!covers("*.example.com", "example.com"));
        assert!(covers("example.com", "example.com"));
    }

    #[test]
    fn a_certificate_that_is_its_own_ca_is_trusted_only_if_it_is_in_the_ca_file_valid_and_for_the_host() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["app.internal".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let certificate = || params.self_signed(&key).unwrap().der().clone();
        let (named, other) = (certificate(), certificate());
        assert_ne!(named, other);
        let mut roots = RootCertStore::empty();
        roots.add(named.clone()).unwrap();
        let trust = Trust::new(Arc::new(roots), vec![named.clone()]).unwrap();
        let shown = |leaf: &CertificateDer<'_>, host: &str, year: u64| {
            let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs((year - 1970) * 31_557_600));
            trust.verify_server_cert(leaf, &[], &server_name(host).unwrap(), &[], now).is_ok()
        };
        assert!(shown(&named, "app.internal", 2026));
        assert!(!shown(&named, "other.internal", 2026), "not its name");
        assert!(!shown(&named, "app.internal", 2031), "not its time");
        assert!(!shown(&other, "app.internal", 2026), "not the one that was named");
    }
}
