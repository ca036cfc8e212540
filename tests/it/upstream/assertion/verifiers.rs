//! `PyJWT`, jose and jsonwebtoken, as docs/apps.md uses them. `tests/run` installs the first two.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::user::user;
use crate::harness::{Client, between, has, program, within};

const ISSUER: &str = "https://tools.example.com";
const AUDIENCE: &str = "my-app";
const KEYS: &str = "http://127.0.0.1:4180/.well-known/upwarden/jwks.json";
const JOSE: &str = "target/jwt-node/node_modules/jose/dist/webapi/index.js";

/// What an app is configured with.
pub(super) struct Expected {
    pub(super) keys: String,
    pub(super) issuer: String,
    pub(super) audience: String,
}

pub(super) struct Verifier {
    pub(super) name: &'static str,
    kind: Kind,
}

enum Kind {
    /// The interpreter.
    Python(PathBuf),
    Node(PathBuf),
    Rust,
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What docs/apps.md says in this language.
pub(super) fn documented(language: &str) -> &'static str {
    let docs = include_str!("../../../../docs/apps.md");
    let (_, section) = docs.split_once("## Verify the user").unwrap();
    between(section, &format!("```{language}\n"), "\n```").unwrap()
}

/// The same for what a test expects.
fn snippet(language: &str, expected: &Expected) -> String {
    let theirs = [(KEYS, &expected.keys), (ISSUER, &expected.issuer), (AUDIENCE, &expected.audience)];
    theirs.into_iter().fold(documented(language).to_owned(), |code, (from, to)| {
        assert!(code.contains(from), "{from}: {code}");
        code.replace(from, to)
    })
}

/// Those that are there.
pub(super) fn installed() -> Vec<Verifier> {
    let python = program("python3").filter(|_| here("target/jwt-python/jwt").is_dir());
    let node = program("node").filter(|_| here(JOSE).is_file());
    let mut found = vec![Verifier { name: "jsonwebtoken", kind: Kind::Rust }];
    if has(python.is_some(), "python3 with PyJWT (tests/run installs it)") {
        found.extend(python.map(|python| Verifier { name: "PyJWT", kind: Kind::Python(python) }));
    }
    if has(node.is_some(), "node with jose (tests/run installs it)") {
        found.extend(node.map(|node| Verifier { name: "jose", kind: Kind::Node(node) }));
    }
    found
}

impl Verifier {
    /// The claims of each assertion, or why it is refused.
    pub(super) async fn verify(&self, expected: &Expected, assertions: &[&str]) -> Vec<Value> {
        let (mut command, code) = match &self.kind {
            Kind::Rust => return by_rust(expected, assertions).await,
            Kind::Python(program) => {
                let mut command = Command::new(program);
                command.arg(here("tests/it/upstream/assertion/verify.py")).env("PYTHONPATH", here("target/jwt-python"));
                (command, snippet("python", expected))
            }
            Kind::Node(program) => {
                let mut command = Command::new(program);
                command.arg(here("tests/it/upstream/assertion/verify.mjs"));
                let library = format!("\"file://{}\"", here(JOSE).display());
                (command, snippet("js", expected).replace("\"jose\"", &library))
            }
        };
        command.arg(code).env("NO_PROXY", "127.0.0.1");
        run(command, assertions.join("\n")).await
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

async fn by_rust(expected: &Expected, assertions: &[&str]) -> Vec<Value> {
    let (host, path) = expected.keys.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let keys = Client::at(host.parse().unwrap()).get(&format!("/{path}")).await.json();
    let keys = serde_json::from_value(keys).unwrap();
    let verify = |assertion: &&str| {
        user(assertion, &keys, &expected.issuer, &expected.audience).unwrap_or_else(|why| why.to_string().into())
    };
    assertions.iter().map(verify).collect()
}
