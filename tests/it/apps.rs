//! Real apps behind a real host name: their pages and sockets in Chromium, under https, set up as docs/apps.md says.
//!
//! `UPWARDEN_TESTS_APPS=1 tests/run` installs them into `target/apps-python` and `target/apps-node`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;
use upwarden::sandbox::{Client, Config};
use upwarden::testing::secret::Secret;

use super::harness::{Browser, Certificate, FREELANCER, World, has, program, setting, until, until_in, within};

const NAME: &str = "tools.example.com";
/// A Python app that has just been installed is compiled at its first start.
const SLOW: Duration = Duration::from_secs(180);

/// An app, until this is dropped.
struct Process {
    child: Child,
    port: u16,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts an app on a free port, and waits until it listens.
async fn start(folder: &Path, command: impl FnOnce(u16) -> Command) -> Process {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let log = std::fs::File::create(folder.join("app.log")).unwrap();
    let mut command = command(port);
    command.current_dir(folder).env("HOME", folder).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let process = Process { child: command.spawn().unwrap(), port };
    until_in(SLOW, "the app listens", || async { TcpStream::connect(("127.0.0.1", port)).await.ok() }).await;
    process
}

/// In front of an app, with TLS and a name that is not this machine's; and a browser that finds it there.
async fn open(folder: &Path, app: &Process, path: &str) -> Option<(World, Browser)> {
    let certificate = Certificate::write(folder, NAME);
    let (id, secret) = ("0123456789abcdef0123456789abcdef", "0123456789abcdef");
    let redirect_uri = format!("https://{NAME}/upwork/auth/callback");
    let client = Client { id: id.to_owned(), secret: Secret::new(secret), redirect_uri };
    let world = World::new()
        .upwork(Config { clients: vec![client], ..Config::default() })
        .set("public_url", format!("https://{NAME}"))
        .set("public.tls.certificates", setting(&[&certificate]))
        .set("app.url", format!("http://127.0.0.1:{}", app.port))
        .set("upwork.client_id", id)
        .set("upwork.client_secret", secret)
        .start();
    let found = format!("--host-resolver-rules=MAP {NAME}:443 {}", world.public_address());
    let browser = Browser::with(&["--ignore-certificate-errors", &found]).await?;
    browser.open(&format!("https://{NAME}{path}")).await;
    browser.consent(FREELANCER, "accept").await;
    Some((world, browser))
}

fn target(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(path)
}

/// A Python module in the virtual environment that tests/run makes, as a command.
fn python(module: &str) -> Option<Command> {
    let python = Some(target("apps-python/bin/python")).filter(|python| python.is_file());
    has(python.is_some(), &format!("{module} (UPWARDEN_TESTS_APPS=1 tests/run installs it)"));
    let mut command = Command::new(python?);
    command.args(["-m", module]);
    Some(command)
}

#[tokio::test]
async fn streamlit_shows_who_is_signed_in_over_its_websocket() {
    let Some(mut command) = python("streamlit") else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = "import streamlit as st\nst.header('hello, ' + st.context.headers['X-Upwork-User'])\n\
                  if st.button('press'): st.write('pressed')\n";
    std::fs::write(folder.path().join("app.py"), script).unwrap();
    let app = start(folder.path(), |port| {
        command.args(["run", "app.py", "--server.headless=true", "--server.address=127.0.0.1"]);
        command.args([&format!("--server.port={port}"), "--browser.gatherUsageStats=false"]);
        command.args([&format!("--browser.serverAddress={NAME}"), "--browser.serverPort=443"]);
        command
    })
    .await;
    let Some((world, browser)) = open(folder.path(), &app, "/").await else { return };
    browser.text_where("h2", |text| text.contains("hello, foofreelancer")).await;
    browser.click("button[kind=secondary]").await;
    browser.text_where("body", |text| text.contains("pressed")).await;
    within(browser.quit()).await;
    drop(world);
}

#[tokio::test]
async fn jupyterlab_opens_and_its_kernels_answer_over_websockets() {
    let Some(mut command) = python("jupyterlab") else { return };
    let folder = tempfile::tempdir().unwrap();
    let app = start(folder.path(), |port| {
        command.args(["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", &format!("--ServerApp.port={port}")]);
        command.args(["--ServerApp.allow_remote_access=True", "--ServerApp.trust_xheaders=True"]);
        command.args(["--IdentityProvider.token=", "--ServerApp.port_retries=0"]);
        command
    })
    .await;
    let Some((world, browser)) = open(folder.path(), &app, "/lab").await else { return };
    browser.text_where("#jp-main-dock-panel", |text| text.contains("Notebook")).await;
    let script = "return (async () => {
        const xsrf = document.cookie.match(/_xsrf=([^;]+)/)[1];
        const made = await fetch('/api/kernels', { method: 'POST', headers: { 'X-XSRFToken': xsrf } });
        const { id } = await made.json();
        const socket = new WebSocket(`wss://${location.host}/api/kernels/${id}/channels`);
        const said = await new Promise(resolve => {
            socket.onmessage = () => resolve('the kernel spoke');
            socket.onclose = event => resolve('closed ' + event.code);
        });
        await fetch('/api/kernels/' + id, { method: 'DELETE', headers: { 'X-XSRFToken': xsrf } });
        return said;
    })();";
    assert_eq!(browser.run(script).await, "the kernel spoke");
    within(browser.quit()).await;
    drop(world);
}

#[tokio::test]
async fn vite_replaces_a_module_in_the_open_page() {
    let vite = target("apps-node/node_modules/vite/bin/vite.js");
    let node = program("node").filter(|_| vite.is_file());
    if !has(node.is_some(), "vite (UPWARDEN_TESTS_APPS=1 tests/run installs it)") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let module = |said: &str| {
        format!(
            "document.getElementById('said').textContent = '{said}';\nif (import.meta.hot) import.meta.hot.accept();\n"
        )
    };
    write("index.html", "<!doctype html><title>v</title><p id=said></p><script type=module src=/main.js></script>");
    write("main.js", &module("one"));
    write("vite.config.js", &format!("export default {{ server: {{ allowedHosts: ['{NAME}'] }} }};\n"));
    let app = start(folder.path(), |port| {
        let mut command = Command::new(node.unwrap());
        command.arg(&vite).args(["--host", "127.0.0.1", "--strictPort", "--port", &port.to_string()]);
        command
    })
    .await;
    let Some((world, browser)) = open(folder.path(), &app, "/").await else { return };
    browser.text_where("#said", |text| text == "one").await;
    browser.run("window.kept = true").await;
    // The socket may still be opening; the module is written until it has arrived.
    let mut turn = 0;
    until("the module is replaced", || {
        turn += 1;
        write("main.js", &format!("// {turn}\n{}", module("two")));
        let browser = &browser;
        async move { (browser.text("#said").await == "two").then_some(()) }
    })
    .await;
    assert_eq!(browser.run("return window.kept").await, true, "replaced, not reloaded");
    within(browser.quit()).await;
    drop(world);
}
