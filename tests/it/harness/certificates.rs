//! Self-signed certificates, and clients that trust them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::within;

pub(crate) const BOTH_VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// A self-signed certificate and its key, as files.
pub(crate) struct Certificate {
    pub(crate) file: PathBuf,
    key: PathBuf,
    pub(crate) der: CertificateDer<'static>,
}

impl Certificate {
    /// Writes `NAME.pem` and `NAME.key`, over what is there.
    pub(crate) fn write(folder: &Path, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (file, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        // The key first: a reload in between finds a pair that does not fit, and waits for the next.
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::write(&file, made.cert.pem()).unwrap();
        Self { file, key, der: made.cert.der().clone() }
    }

    /// The configuration of a server that has this certificate alone.
    pub(crate) fn server(&self) -> ServerConfig {
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], PrivateKeyDer::from_pem_file(&self.key).unwrap())
            .unwrap()
    }
}

/// These certificates as a value of `public.tls.certificates`.
pub(crate) fn setting(certificates: &[&Certificate]) -> String {
    let tables = certificates.iter().map(|one| serde_json::json!({ "cert_file": one.file, "key_file": one.key }));
    tables.collect::<serde_json::Value>().to_string()
}

/// A client that trusts these certificates and speaks these versions.
pub(crate) fn trusting(certificates: &[&Certificate], versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for one in certificates {
        roots.add(one.der.clone()).unwrap();
    }
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Connects to `name` at this address.
pub(crate) async fn connect(
    address: SocketAddr,
    client: &ClientConfig,
    name: &'static str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    within(TlsConnector::from(Arc::new(client.clone())).connect(name.try_into().unwrap(), socket)).await
}
