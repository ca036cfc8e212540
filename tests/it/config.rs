//! The commands that need no server, run by the real binary: what they print, where, and their exit codes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// A run of the binary in which only the given variables are set.
struct Run(Command);

impl Run {
    fn of(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_upwarden"));
        command.args(arguments).env_clear();
        Self(command)
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    fn at(mut self, folder: &Path) -> Self {
        self.0.current_dir(folder);
        self
    }

    /// Exit code, stdout, stderr.
    fn ends(mut self) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.0.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }
}

fn fresh_key() -> String {
    let (code, stdout, _) = Run::of(&["key"]).ends();
    assert_eq!(code, 0);
    stdout.trim_end().to_owned()
}

/// A folder with a valid configuration.
fn configured() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("session-key"), fresh_key() + "\n").unwrap();
    std::fs::write(folder.path().join("upwork"), "73317331\n").unwrap();
    let text = r#"public_url = "https://tools.example.com"
app.url = "http://127.0.0.1:3000"
upwork.client_id = "0123456789abcdef0123456789abcdef"
upwork.client_secret_file = "upwork"
session.key_files = ["session-key"]
access.users = ["1181921839933591552"]
"#;
    std::fs::write(folder.path().join("upwarden.toml"), text).unwrap();
    folder
}

#[test]
fn a_key_is_43_characters_and_never_the_same() {
    let (code, stdout, stderr) = Run::of(&["key", "--count", "3"]).ends();
    let mut lines: Vec<_> = stdout.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!((code, lines.len(), stderr.as_str()), (0, 3, ""));
    assert!(lines.iter().all(|line| line.len() == 43));
}

#[test]
fn check_summarizes_the_configuration_and_shows_no_secret() {
    let folder = configured();
    let (code, stdout, stderr) = Run::of(&["check"]).at(folder.path()).ends();
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.starts_with("the configuration is valid\n"), "{stdout}");
    assert!(stdout.contains("https://tools.example.com/upwork/auth/callback"), "{stdout}");
    assert!(!stdout.contains("73317331"), "{stdout}");
    let believed = "trusts no proxy; unless a proxy says otherwise, requests for the host of https://tools.example.com count as https";
    assert!(stdout.contains(believed), "{stdout}");
    let (_, stdout, _) = Run::of(&["check", "--set", "app.assertion=my-app"]).at(folder.path()).ends();
    let keys = "iss https://tools.example.com, aud my-app; the public keys are at https://tools.example.com/.well-known/upwarden/jwks.json";
    assert!(stdout.contains(keys), "{stdout}");
    // Nothing was written.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn check_reports_every_problem_with_its_source_and_exits_with_78() {
    let folder = configured();
    let (code, stdout, stderr) = Run::of(&["check", "--config", "upwarden.toml", "--set", "log.level=loud"])
        .at(folder.path())
        .with("UPWARDEN_PUBLIC_URL", "http://tools.example.com")
        .with("UPWARDEN_APP_URL", "http://127.0.0.1:1")
        .with("UPWARDEN_SERVICE_HOST", "10.0.0.1")
        .with("UPWARDEN_PORT_4180_TCP", "tcp://10.0.0.1:4180")
        .ends();
    assert_eq!((code, stdout.as_str()), (78, ""));
    for part in [
        "environment variable UPWARDEN_PUBLIC_URL",
        "did you mean UPWARDEN_APP__URL?",
        "--set log.level",
        "3 problems in the configuration",
    ] {
        assert!(stderr.contains(part), "{part} is missing in:\n{stderr}");
    }
}

#[test]
fn the_file_is_named_with_its_line() {
    let folder = configured();
    let path = folder.path().join("upwarden.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("app.url", "app.ulr");
    std::fs::write(&path, text).unwrap();
    let (code, _, stderr) = Run::of(&["serve"]).at(folder.path()).ends();
    assert_eq!(code, 78);
    assert!(stderr.contains("source  upwarden.toml:2\n"), "{stderr}");
    assert!(stderr.contains("did you mean `app.url`?"), "{stderr}");
    assert!(stderr.contains("looked in upwarden.toml, UPWARDEN_APP__URL, --set app.url"), "{stderr}");
}

#[test]
fn a_key_goes_to_a_file_that_only_its_owner_can_read_and_replaces_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("session-key");
    let (code, stdout, stderr) = Run::of(&["key", "--out", "session-key"]).at(folder.path()).ends();
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "", ""));
    let written = std::fs::read_to_string(&file).unwrap();
    assert_eq!(written.len(), 44, "a key and a line break");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, _, stderr) = Run::of(&["key", "--out", "session-key"]).at(folder.path()).ends();
    assert!(code != 0 && stderr.contains("exists"), "{stderr}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), written);
}

#[test]
fn a_key_of_zeros_is_refused_and_a_secret_that_everyone_can_read_is_named() {
    let folder = configured();
    let file = folder.path().join("session-key");
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::write(&file, format!("{}\n", fresh_key())).unwrap();
    mode(0o600);
    let (code, stdout, _) = Run::of(&["check"]).at(folder.path()).ends();
    assert!(code == 0 && !stdout.contains("session-key; run: chmod"), "{stdout}");
    mode(0o644);
    let (code, stdout, _) = Run::of(&["check"]).at(folder.path()).ends();
    assert!(code == 0 && stdout.contains("every user of this machine can read session-key"), "{stdout}");
    std::fs::write(&file, format!("{}\n", "A".repeat(43))).unwrap();
    let (code, _, stderr) = Run::of(&["check"]).at(folder.path()).ends();
    assert!(code == 78 && stderr.contains("line 1 of session-key"), "{stderr}");
}

#[test]
fn warnings_are_errors_with_strict() {
    let folder = configured();
    let private =
        |name| std::fs::set_permissions(folder.path().join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    private("session-key");
    private("upwork");
    let run = |arguments: &[&str]| Run::of(arguments).at(folder.path()).ends();
    let (code, stdout, stderr) = run(&["check", "--strict"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    let wide = ["--set", "public.trusted_proxies=0.0.0.0/0", "--set", "app.tickets=true"];
    let (code, stdout, stderr) = run(&[&["check"][..], &wide].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout.matches("\nwarning: ").count(), 2, "{stdout}");
    assert!(
        stdout.contains("warning: public.trusted_proxies\n  source  --set public.trusted_proxies\n  why "),
        "{stdout}"
    );
    let (code, stdout, stderr) = run(&[&["check", "--strict"][..], &wide].concat());
    assert_eq!((code, stdout.as_str()), (78, ""));
    assert!(stderr.contains("app.tickets\n") && stderr.contains("2 problems in the configuration"), "{stderr}");
}

#[test]
fn nothing_configured_at_all_names_the_file_and_the_demo() {
    let empty = tempfile::tempdir().unwrap();
    for command in ["check", "serve", "doctor"] {
        let (code, _, stderr) = Run::of(&[command]).at(empty.path()).ends();
        assert_eq!(code, 78, "{command}");
        assert!(stderr.contains("no upwarden.toml") && stderr.contains("`upwarden demo`"), "{stderr}");
    }
    let (_, _, stderr) = Run::of(&["check"]).at(empty.path()).with("UPWARDEN_APP__URL", "http://127.0.0.1:1").ends();
    assert!(!stderr.contains("upwarden demo"), "{stderr}");
}

#[test]
fn without_a_session_key_serve_says_how_to_make_one() {
    let folder = configured();
    let empty = tempfile::tempdir().unwrap();
    let (code, _, stderr) = Run::of(&["serve"]).at(empty.path()).ends();
    assert_eq!(code, 78);
    assert!(stderr.contains("run `upwarden key`"), "{stderr}");
    std::fs::write(folder.path().join("session-key"), "12345678901234567890\n").unwrap();
    let (code, _, stderr) = Run::of(&["check"]).at(folder.path()).ends();
    assert_eq!(code, 78);
    assert!(stderr.contains("line 1 of session-key") && !stderr.contains("1234567890"), "{stderr}");
}

#[test]
fn wrong_usage_exits_with_64_and_repeats_no_secret() {
    for arguments in [
        &["nonsense"][..],
        &["key", "--count", "0"],
        &["health", "--admin", "nowhere"],
        &["completions", "tcsh"],
        &["check", "--set", "hunter2"],
        &["serve", "--set", "=hunter2"],
        &["sandbox", "--client", "hunter2"],
    ] {
        let (code, stdout, stderr) = Run::of(arguments).ends();
        assert_eq!((code, stdout.as_str()), (64, ""), "{arguments:?}");
        assert!(!stderr.is_empty() && !stderr.contains("hunter2"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    for command in ["serve", "demo", "sandbox", "check", "key", "health", "completions"] {
        let (code, stdout, stderr) = Run::of(&[command, "--help"]).ends();
        assert_eq!((code, stderr.as_str()), (0, ""), "{command}");
        assert!(stdout.contains("Usage: upwarden") && stdout.contains("xample") || command == "key", "{stdout}");
    }
    let (code, stdout, _) = Run::of(&["--version"]).ends();
    assert_eq!((code, stdout), (0, format!("upwarden {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "fish", "zsh"] {
        let (code, stdout, _) = Run::of(&["completions", shell]).ends();
        assert!(code == 0 && stdout.contains("health") && stdout.contains("sandbox"), "{shell}");
    }
}

#[test]
fn health_prints_the_admin_doors_answer_and_exits_by_it() {
    for (status, wanted) in [("200 OK", 0), ("503 Service Unavailable", 1)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let door = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\nstate").as_bytes()).unwrap();
            String::from_utf8(head).unwrap()
        });
        let (code, stdout, _) = Run::of(&["health"]).with("UPWARDEN_ADMIN__LISTEN", &address).ends();
        assert_eq!((code, stdout.as_str()), (wanted, "state\n"));
        assert!(door.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\n"));
    }
    // A server that closes the connection without an answer.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let door = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let (code, stdout, stderr) = Run::of(&["health", "--admin", &address]).ends();
    door.join().unwrap();
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("no answer from the admin door"), "{stderr}");
}

#[test]
fn check_prints_the_routes_as_they_are_tried() {
    let folder = configured();
    let path = folder.path().join("upwarden.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    let routes = r#"
[[routes]]
path = "/admin"
users = ["1181921839933591552"]

[[routes]]
path = "/webhook"
methods = ["POST"]
public = true

[[routes]]
path = "/api"
url = "http://127.0.0.1:8000"
read_only = true
http2 = true
timeouts.idle = "5m"
"#;
    std::fs::write(&path, format!("{before}{routes}")).unwrap();
    let (code, stdout, stderr) = Run::of(&["check"]).at(folder.path()).ends();
    assert_eq!(code, 0, "{stderr}");
    let expected = "\n  routes         /webhook POST → http://127.0.0.1:3000 (public)\n\
                    \x20                /admin → http://127.0.0.1:3000 (a session, user 1181921839933591552)\n\
                    \x20                /api → http://127.0.0.1:8000 (a session, read-only, HTTP/2, timeouts 5s 60s 300s)\n\
                    \x20                / → http://127.0.0.1:3000 (a session)\n";
    assert!(stdout.contains(expected), "{stdout}");

    std::fs::write(&path, format!("{before}{routes}{routes}")).unwrap();
    let (code, _, stderr) = Run::of(&["check"]).at(folder.path()).ends();
    assert_eq!((code, stderr.matches("no request reaches the route of").count()), (78, 3), "{stderr}");

    std::fs::write(&path, format!("{before}app.public_paths = [\"/health\"]\n")).unwrap();
    let (code, _, stderr) = Run::of(&["check"]).at(folder.path()).ends();
    assert!(code == 78 && stderr.contains("public paths are routes") && stderr.contains("public = true"), "{stderr}");
}
