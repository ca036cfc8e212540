//! Starts the servers in front. Only the addresses in the files under `deploy/` are replaced, and TLS is left out.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

use crate::harness::{Client, Plan, World, has, listener, program, until};

const NGINX: &str = include_str!("../../../../deploy/nginx/upwarden.conf");
const CADDY: &str = include_str!("../../../../deploy/caddy/Caddyfile");
const ENVOY: &str = include_str!("../../../../deploy/envoy/envoy.yaml");
const HAPROXY: &str = include_str!("../../../../deploy/haproxy/haproxy.cfg");
const HAPROXY_LUA: &str = include_str!("../../../../deploy/haproxy/upwarden.lua");

/// A web server in front; dropping this ends it.
pub(super) struct Front {
    child: Child,
    _folder: tempfile::TempDir,
}

/// Starts a web server at an address, in front of upwarden and the app.
pub(super) type Start = fn(&Behind, SocketAddr) -> Option<Front>;

/// Where upwarden and the app are.
pub(super) struct Behind {
    pub(super) upwarden: SocketAddr,
    pub(super) app: SocketAddr,
}

impl Drop for Front {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text with `from` replaced, which must be there.
fn put(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the file under deploy/ no longer has {from:?}");
    text.replace(from, to)
}

pub(super) fn nginx(behind: &Behind, at: SocketAddr) -> Option<Front> {
    let nginx = system_program("nginx")?;
    let folder = tempfile::tempdir().unwrap();
    let site = addressed(NGINX, behind);
    let site = put(&site, "listen 443 ssl;", &format!("listen {at};"));
    let site: Vec<&str> = site.lines().filter(|line| !line.contains("ssl_certificate")).collect();
    let own = folder.path().display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|kind| format!("{kind}_temp_path {own}/{kind};")).join("\n");
    let site = site.join("\n");
    let whole = format!(
        "daemon off;\nmaster_process off;\npid {own}/pid;\nerror_log {own}/error.log;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}\n{site}\n}}\n"
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, whole).unwrap();
    let mut command = Command::new(nginx);
    command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
    Some(Front { child: quiet(&mut command), _folder: folder })
}

/// Debian installs servers outside of an ordinary user's PATH.
fn system_program(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/usr/local/sbin"].iter();
    let found =
        program(name).or_else(|| folders.map(|folder| Path::new(folder).join(name)).find(|path| path.is_file()));
    has(found.is_some(), name).then_some(found)?
}

/// The recipe with the addresses of these two.
fn addressed(recipe: &str, behind: &Behind) -> String {
    let recipe = put(recipe, "127.0.0.1:4180", &behind.upwarden.to_string());
    put(&recipe, "127.0.0.1:3000", &behind.app.to_string())
}

pub(super) fn haproxy(behind: &Behind, at: SocketAddr) -> Option<Front> {
    let haproxy = system_program("haproxy")?;
    let folder = tempfile::tempdir().unwrap();
    let (lua, file) = (folder.path().join("upwarden.lua"), folder.path().join("haproxy.cfg"));
    std::fs::write(&lua, put(HAPROXY_LUA, "127.0.0.1:4180", &behind.upwarden.to_string())).unwrap();
    let config = put(&addressed(HAPROXY, behind), "/etc/haproxy/upwarden.lua", &lua.display().to_string());
    let bind = "bind :443 ssl crt /etc/haproxy/tools.pem alpn h2,http/1.1";
    std::fs::write(&file, put(&config, bind, &format!("bind {at}"))).unwrap();
    let mut command = Command::new(haproxy);
    command.args(["-W", "-q", "-f"]).arg(&file);
    Some(Front { child: quiet(&mut command), _folder: folder })
}

pub(super) fn envoy(behind: &Behind, at: SocketAddr) -> Option<Front> {
    let fetched = concat!(env!("CARGO_MANIFEST_DIR"), "/target/envoy/envoy/_bin/envoy");
    let envoy = Some(PathBuf::from(fetched)).filter(|path| path.is_file()).or_else(|| program("envoy"));
    if !has(envoy.is_some(), "envoy") {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = |address: SocketAddr| format!("address: {}, port_value: {}", address.ip(), address.port());
    let config = put(ENVOY, "address: 127.0.0.1, port_value: 4180", &socket(behind.upwarden));
    let config = put(&config, "http://127.0.0.1:4180", &format!("http://{}", behind.upwarden));
    let config = put(&config, "address: 127.0.0.1, port_value: 3000", &socket(behind.app));
    let config = put(&config, "address: 0.0.0.0, port_value: 8443", &socket(at));
    let (before, tls) = config.split_once("          # TLS\n").unwrap();
    let config = format!("{before}{}", &tls[tls.find("  clusters:").unwrap()..]);
    let file = folder.path().join("envoy.yaml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(envoy?);
    command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"]).arg(&file);
    Some(Front { child: quiet(&mut command), _folder: folder })
}

pub(super) fn caddy(behind: &Behind, at: SocketAddr) -> Option<Front> {
    let caddy = program("caddy");
    if !has(caddy.is_some(), "caddy") {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let site = addressed(CADDY, behind);
    let site = put(&site, "tools.example.com {", &format!("http://{at} {{"));
    let file = folder.path().join("Caddyfile");
    std::fs::write(&file, format!("{{\n\tadmin off\n}}\n{site}")).unwrap();
    let mut command = Command::new(caddy?);
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
    command.env("HOME", folder.path()).env("XDG_DATA_HOME", folder.path()).env("XDG_CONFIG_HOME", folder.path());
    Some(Front { child: quiet(&mut command), _folder: folder })
}

fn quiet(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A world whose public address is the web server's.
pub(super) async fn fronted(plan: Plan, start: Start) -> Option<(World, Front, Client, SocketAddr)> {
    let at = listener().local_addr().unwrap();
    let plan = plan.set("public_url", format!("http://{at}")).set("app.assertion", "my-app");
    let world = plan.set("public.trusted_proxies", "127.0.0.1/32").start();
    let front = start(&Behind { upwarden: world.address(0), app: world.app_address() }, at)?;
    until("the web server", async || TcpStream::connect(at).await.ok()).await;
    Some((world, front, Client::at(at), at))
}
