//! `upwarden login` by the real binary against a sandbox: with a browser, and with a pasted address.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::{WHO, ask, settings, whom};
use crate::harness::{AGENCY, Client, FREELANCER, World};

/// The command, started, and the address it prints.
struct Login {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    location: String,
}

fn arguments(world: &World, folder: &Path, redirect: &str) -> Vec<String> {
    let mut arguments = settings(world);
    arguments.push("--set=store.kind=embedded".to_owned());
    arguments.push(format!("--set=store.path={}", folder.join("store.redb").display()));
    arguments.push("--set=service.grant=refresh_token".to_owned());
    if !redirect.is_empty() {
        arguments.push(format!("--set=service.redirect_uri={redirect}"));
    }
    arguments
}

fn command(arguments: &[String], out: Option<&Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upwarden"));
    command.env_clear().arg("login").args(arguments);
    if let Some(out) = out {
        command.arg("--out").arg(out);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Login {
    fn start(arguments: &[String], out: &Path) -> Self {
        let mut child = command(arguments, Some(out)).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let location =
            lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("http://")).expect("an address");
        Self { child, lines, location }
    }

    /// The rest of its output, and how it ended.
    fn ended(self) -> (String, Output) {
        let rest: Vec<String> = self.lines.map_while(Result::ok).collect();
        (rest.join("\n"), self.child.wait_with_output().unwrap())
    }
}

/// A free port for the redirect, on which the command can then listen.
fn redirect() -> (String, std::net::SocketAddr) {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    (format!("http://{address}/callback"), address)
}

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

fn out(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("refresh-token")
}

#[tokio::test]
async fn the_browser_is_redirected_and_a_running_server_uses_the_written_token() {
    let folder = tempfile::tempdir().unwrap();
    let out = out(&folder);
    let world = World::new()
        .set("store.kind", "embedded")
        .set("store.path", folder.path().join("running.redb").display())
        .set("service.grant", "refresh_token")
        .set("service.refresh_token_file", out.display())
        .start();
    assert_eq!(ask(&world.neighbour(), WHO).await.status, 503, "not connected yet");
    let (redirect, address) = redirect();
    let login = Login::start(&arguments(&world, folder.path(), &redirect), &out);
    assert!(login.location.contains("code_challenge_method=S256"));
    let browser = Client::at(address);
    assert_eq!(browser.get("/callback?code=evil&state=evil").await.status, 400, "a foreign state redeems nothing");
    assert_eq!(browser.get("/favicon.ico").await.status, 404);
    assert_eq!(world.counters().token.authorization_code, 0);
    let back = world.upwork.consent(&login.location, AGENCY).await;
    assert!(back.starts_with(&redirect), "{back}");
    let page = browser.get(&back).await;
    assert!(page.status == 200 && page.header("referrer-policy") == "no-referrer", "{}", page.text());
    let text = page.text();
    assert!(text.contains("<h1>Connected</h1>") && text.contains("history.replaceState"), "{text}");
    assert!(page.header("content-security-policy").contains("default-src 'none'"), "{page:?}");
    let (said, output) = login.ended();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let token = std::fs::read_to_string(&out).unwrap();
    assert!(said.contains(AGENCY) && said.contains("Next:") && !said.contains(token.trim()), "{said}");
    assert_eq!(mode(&out), 0o600);
    assert_eq!(whom(&ask(&world.neighbour(), WHO).await), AGENCY);
}

#[tokio::test]
async fn the_final_address_can_be_pasted() {
    let folder = tempfile::tempdir().unwrap();
    let (world, out) = (World::new().start(), out(&folder));
    // The callback is registered for another machine, so nothing listens here.
    let mut login = Login::start(&arguments(&world, folder.path(), "http://127.0.0.1:1/callback"), &out);
    let back = world.upwork.consent(&login.location, FREELANCER).await;
    let mut stdin = login.child.stdin.take().unwrap();
    writeln!(stdin, "what?\n  {back}  ").unwrap();
    let (said, output) = login.ended();
    assert!(output.status.success() && said.contains(FREELANCER), "{said}");
    assert!(std::fs::read_to_string(&out).unwrap().starts_with("oauth2v2_"));
    drop(stdin);
}

#[tokio::test]
async fn login_refuses_to_start_without_a_valid_place_for_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let (world, out) = (World::new().start(), out(&folder));
    let run = |arguments: &[String], out: Option<&Path>| {
        let output = command(arguments, out).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let good = arguments(&world, folder.path(), "http://127.0.0.1:1/callback");
    assert_eq!(run(&good, None).0, Some(64), "there is no --out");
    std::fs::write(&out, "before").unwrap();
    let (code, said) = run(&good, Some(&out));
    assert!(code == Some(1) && said.contains("--force"), "{said}");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "before");
    std::fs::remove_file(&out).unwrap();
    let (code, said) = run(&arguments(&world, folder.path(), ""), Some(&out));
    assert!(code == Some(1) && said.contains("service.redirect_uri"), "{said}");
    // Declined at Upwork: nothing is written.
    let (redirect, address) = redirect();
    let login = Login::start(&arguments(&world, folder.path(), &redirect), &out);
    let back = world.upwork.decline(&login.location).await;
    assert_eq!(Client::at(address).get(&back).await.status, 400);
    let (_, output) = login.ended();
    assert!(output.status.code() == Some(1) && !out.exists());
    assert_eq!(world.counters().token.authorization_code, 0);
}
