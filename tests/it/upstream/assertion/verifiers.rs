//! `PyJWT`, jose and jsonwebtoken. `tests/run` installs the first two.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

use crate::harness::{Client, has, program, within};

pub(super) struct Verifier {
    pub(super) name: &'static str,
    kind: Kind,
}

enum Kind {
    /// A program and its first arguments; the packages that it finds.
    Program {
        program: PathBuf,
        arguments: Vec<PathBuf>,
        packages: PathBuf,
    },
    Rust,
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Those that are there.
pub(super) fn installed() -> Vec<Verifier> {
    let mut found = vec![Verifier { name: "jsonwebtoken", kind: Kind::Rust }];
    let packages = here("target/jwt-python");
    let python = program("python3").filter(|_| packages.join("jwt").is_dir());
    if has(python.is_some(), "python3 with PyJWT (tests/run installs it)") {
        let arguments = vec![here("tests/it/upstream/assertion/verify.py")];
        let kind = Kind::Program { program: python.unwrap(), arguments, packages };
        found.push(Verifier { name: "PyJWT", kind });
    }
    let packages = here("target/jwt-node/node_modules");
    let library = packages.join("jose/dist/webapi/index.js");
    let node = program("node").filter(|_| library.is_file());
    if has(node.is_some(), "node with jose (tests/run installs it)") {
        let arguments = vec![here("tests/it/upstream/assertion/verify.mjs"), library];
        let kind = Kind::Program { program: node.unwrap(), arguments, packages };
        found.push(Verifier { name: "jose", kind });
    }
    found
}

impl Verifier {
    /// The claims of each token, or why it is refused.
    pub(super) async fn verify(&self, keys: &str, issuer: &str, audience: &str, tokens: &[&str]) -> Vec<Value> {
        match &self.kind {
            Kind::Program { program, arguments, packages } => {
                let mut command = Command::new(program);
                command.args(arguments).args([keys, issuer, audience]);
                command.env("PYTHONPATH", packages).env("NO_PROXY", "127.0.0.1");
                run(command, tokens.join("\n")).await
            }
            Kind::Rust => by_rust(keys, issuer, audience, tokens).await,
        }
    }
}

async fn run(mut command: Command, input: String) -> Vec<Value> {
    let output = tokio::task::spawn_blocking(move || {
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = within(output).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// As an app does it with the crate.
async fn by_rust(keys: &str, issuer: &str, audience: &str, tokens: &[&str]) -> Vec<Value> {
    let (host, path) = keys.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let keys: JwkSet =
        serde_json::from_value(Client::at(host.parse().unwrap()).get(&format!("/{path}")).await.json()).unwrap();
    let mut rules = Validation::new(Algorithm::ES256);
    rules.leeway = 0;
    rules.set_issuer(&[issuer]);
    rules.set_audience(&[audience]);
    rules.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
    let verify = |token: &str| {
        let head = jsonwebtoken::decode_header(token).map_err(|error| error.to_string())?;
        let key = head.kid.and_then(|kid| keys.find(&kid)).ok_or("there is no such key")?;
        let key = DecodingKey::from_jwk(key).map_err(|error| error.to_string())?;
        let token =
            jsonwebtoken::decode::<Value>(token, &key, &rules).map_err(|error| format!("{:?}", error.kind()))?;
        Ok::<_, String>(token.claims)
    };
    tokens.iter().map(|token| verify(token).unwrap_or_else(Value::String)).collect()
}
