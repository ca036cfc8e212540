//! Where sessions are stored.

use crate::config::parse::{self, ValueError};
use crate::config::reader::Reader;
use crate::store::{self, ServerConfig};
use crate::tls::CertificateFiles;

#[derive(Clone, Copy)]
enum Kind {
    Cookie,
    Embedded,
    Valkey,
}

pub(super) fn store(reader: &mut Reader) -> Option<store::Config> {
    let kinds = [("cookie", Kind::Cookie), ("embedded", Kind::Embedded), ("valkey", Kind::Valkey)];
    let kind = reader.parsed("store.kind", |text| match text {
        "redis" => Err(ValueError::new(
            "is not one of the choices; \"valkey\" also speaks to Redis",
            "write \"valkey\"; store.url may begin with redis://",
        )),
        _ => parse::choice(text, &kinds),
    });
    let path = reader.path("store.path");
    let url = reader.secret("store.url");
    let ca_file = reader.ca_file("store.ca_file");
    let certificate = certificate(reader);
    let url_key = reader.given_secret("store.url");
    if !reader.given("store.kind") && (url_key.is_some() || reader.given("store.path")) {
        let remedy =
            "set store.kind = \"embedded\" (with store.path) or \"valkey\" (with store.url), or remove these keys";
        reader.missing("store.kind", remedy);
        return None;
    }
    match kind? {
        Kind::Cookie => Some(store::Config::Cookie),
        Kind::Embedded => {
            if !reader.given("store.path") {
                let remedy = "set the file for the sessions: store.path = \"/var/lib/upwarden/sessions.redb\"";
                reader.missing("store.path", remedy);
            }
            Some(store::Config::Embedded { path: path? })
        }
        Kind::Valkey => {
            let Some(key) = url_key else {
                let remedy =
                    "set store.url = \"rediss://user:password@host:6379\", or store.url_file to a file with the URL";
                reader.missing("store.url", remedy);
                return None;
            };
            let url = url?;
            if let Err(why) = store::check_url(&url) {
                let remedy = "write rediss://user:password@host:6379/0, redis:// or valkey:// without TLS, unix:///path of its \
                              socket, redis+sentinel://host,host/primary for Sentinel, or redis+cluster://host,host";
                reader.problem(&key, &why, remedy);
                return None;
            }
            Some(store::Config::Valkey(ServerConfig { url, ca_file, certificate }))
        }
    }
}

/// The client certificate for mutual TLS.
fn certificate(reader: &mut Reader) -> Option<CertificateFiles> {
    const KEYS: [&str; 2] = ["store.cert_file", "store.key_file"];
    let [cert_file, key_file] = KEYS.map(|key| reader.path(key));
    for (key, other) in [(KEYS[0], KEYS[1]), (KEYS[1], KEYS[0])] {
        if reader.given(key) && !reader.given(other) {
            reader.missing(other, format!("name the file that belongs to {key}, or remove {key}"));
        }
    }
    let files = CertificateFiles { cert_file: cert_file?, key_file: key_file? };
    if let Err(error) = files.check() {
        let remedy = "name a PEM file with the certificate chain, and one with its key, that this user can read";
        reader.problem(KEYS[0], error.to_string(), remedy);
    }
    reader.secret_files.push((KEYS[1].to_owned(), files.key_file.clone()));
    Some(files)
}
