"""The proxies: how each is configured, started and signed in to. Every one has a single worker thread.

nginx, HAProxy and Caddy only forward; Envoy, oauth2-proxy and upwarden ask who is there. Each sets the same
`X-Forwarded-*` fields, keeps its connections to the app, and writes an access log to a file where the stage has one.
"""

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from . import backend as behind
from .browser import Browser, request
from .processes import NotReady, accepts, free_ports

CLIENT_ID = "0123456789abcdef0123456789abcdef"
CLIENT_SECRET = "0123456789abcdef"
BEARER = "oauth2v2_0123456789abcdef0123456789abcdef"
FORWARDS_ONLY = "it only forwards"
ONLY_BY_SIGN_IN = "its sessions can only be made by signing in, one by one"


@dataclass(frozen=True)
class Stage:
    """What all proxies have in common while they run."""

    name: str
    tls: bool = False
    log: bool = True


@dataclass(frozen=True)
class Setting:
    """What a proxy is started with."""

    programs: object
    tools: object
    backend: object
    folder: Path
    certificate: Path
    key: Path


class Peer:
    """A proxy. A subclass gives its name and `command`; `lacks` names the cases it cannot run, each with the reason."""

    name = ""
    lacks: dict = {}

    def __init__(self, setting):
        self.setting = setting
        self.port, self.admin = free_ports(2)
        self.folder = setting.folder / self.name
        self.folder.mkdir(exist_ok=True)
        self.stage = self.program = None
        self.cookie = ""

    @property
    def tool(self):
        return self.setting.tools.found[self.name]

    @property
    def origin(self):
        return f"{'https' if self.stage.tls else 'http'}://127.0.0.1:{self.port}"

    def start(self, stage):
        """Starts it and waits until it accepts connections."""
        self.stage = stage
        self.spawn().wait_for(lambda: accepts(self.port))

    def spawn(self):
        self.program = self.setting.programs.start(self.name, self.command(), self.environment())
        return self.program

    def stop(self):
        self.setting.programs.stop(self.program)

    def sign_in(self):
        """The cookie of a signed-in browser, or nothing where the proxy has no sign-in."""
        return ""

    def ask(self):
        """One small request as the signed-in user; its status."""
        return request("GET", self.origin + "/", {"Cookie": self.cookie} if self.cookie else {}).status

    def first_answer(self):
        """Starts it anew; milliseconds until the first 200."""
        self.stop()
        began = time.monotonic()
        self.spawn()
        while time.monotonic() < began + 30:
            try:
                if self.ask() == 200:
                    return (time.monotonic() - began) * 1000
            except OSError:
                time.sleep(0.0002)
        raise NotReady(f"{self.name} does not answer")

    def command(self):
        raise NotImplementedError

    def environment(self):
        return None

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path


class Nginx(Peer):
    name = "nginx"
    lacks = {"sign-in": FORWARDS_ONLY}

    # A location that sets a field of its own inherits none.
    FIELDS = """
      proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_field; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
"""
    SERVER = """
  map $http_upgrade $connection_field {{ default ""; websocket upgrade; }}
  upstream app {{ server {app}; keepalive 128; keepalive_requests 1000000000; keepalive_timeout 300s; }}
  server {{
    listen 127.0.0.1:{port} {tls} backlog=4096; {certificates}
    proxy_http_version 1.1; proxy_read_timeout 300s;
    location / {{ proxy_pass http://app; {fields} }}
    location /upwork/api/ {{
      proxy_pass http://app/api/; {fields}
      proxy_set_header Cookie ""; proxy_set_header Authorization "Bearer {bearer}";
    }}
  }}
"""

    def command(self):
        setting, tls = self.setting, self.stage.tls
        certificates = f"ssl_certificate {setting.certificate}; ssl_certificate_key {setting.key};" if tls else ""
        server = self.SERVER.format(
            app=setting.backend.address, port=self.port, tls="ssl http2" if tls else "", certificates=certificates,
            bearer=BEARER, fields=self.FIELDS,
        )
        log = f"{self.folder}/access.log combined" if self.stage.log else "off"
        return [self.tool, "-p", self.folder, "-c", behind.nginx_config(self.folder, server, log)]


class Upwarden(Peer):
    name = "upwarden"

    def __init__(self, setting):
        super().__init__(setting)
        self.keys = [self.new_key()]

    def new_key(self):
        made = subprocess.run([self.tool, "key"], capture_output=True, text=True, check=True)
        return made.stdout.strip()

    def command(self):
        upwork, tls = self.setting.backend.sandbox, self.stage.tls
        settings = {
            "public_url": self.origin,
            "workers": 1,
            "public.listen": f"127.0.0.1:{self.port}",
            "public.limits.connections": 15000,
            "public.limits.sign_ins_per_address": 1000000,
            "public.timeouts.idle": "5m",
            "admin.listen": f"127.0.0.1:{self.admin}",
            "app.url": f"http://{self.setting.backend.address}",
            "upwork.client_id": CLIENT_ID,
            "upwork.authorize_url": f"{upwork}/ab/account-security/oauth2/authorize",
            "upwork.token_url": f"{upwork}/api/v3/oauth2/token",
            "upwork.revoke_url": f"{upwork}/api/v3/oauth2/token/revoke",
            "upwork.graphql_url": f"{upwork}/graphql",
            # Calls of the API go to the app, which answers as fast as Upwork does not.
            "upwork.api_url": f"http://{self.setting.backend.address}",
            "access.anyone": "true",
            "log.format": "json",
            # The access log is written at level info.
            "log.level": "info" if self.stage.log else "warn",
            "pace.per_second": 1000000,
            "pace.per_minute": 60000000,
            "pace.per_day": 1000000000,
            "drain.delay": "0s",
            "drain.timeout": "1s",
        }
        if tls:
            pair = {"cert_file": str(self.setting.certificate), "key_file": str(self.setting.key)}
            settings["public.tls.certificates"] = json.dumps([pair])
        return [self.tool, "serve"] + [part for pair in settings.items() for part in ("--set", "{}={}".format(*pair))]

    def environment(self):
        ours = {key: value for key, value in os.environ.items() if not key.startswith("UPWARDEN_")}
        secrets = {"UPWARDEN_UPWORK__CLIENT_SECRET": CLIENT_SECRET, "UPWARDEN_SESSION__KEYS": ",".join(self.keys)}
        return {**ours, **secrets}

    def sign_in(self):
        return Browser(self.origin).sign_in(self.setting.backend.sandbox)


class Haproxy(Peer):
    name = "haproxy"
    lacks = {"sign-in": FORWARDS_ONLY}

    CONFIG = """
global
  maxconn 15000
  # With a limit of open files below twice maxconn, it starts all the same.
  no strict-limits
  nbthread 1
  {log}
defaults
  mode http
  log global
  option httplog
  timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend public
  bind 127.0.0.1:{port} {tls}
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  use_backend api if {{ path_beg /upwork/api/ }}
  default_backend app
backend app
  http-reuse always
  server app {app}
backend api
  http-reuse always
  http-request set-path %[path,regsub(^/upwork,)]
  http-request del-header Cookie
  http-request set-header Authorization "Bearer {bearer}"
  server app {app}
"""

    def command(self):
        setting = self.setting
        pair = self.write("pair.pem", setting.certificate.read_text() + setting.key.read_text())
        tls = f"ssl crt {pair} alpn h2,http/1.1" if self.stage.tls else ""
        # It logs to stdout, which goes to a file.
        log = "log stdout format raw local0" if self.stage.log else ""
        text = self.CONFIG.format(log=log, port=self.port, tls=tls, app=setting.backend.address, bearer=BEARER)
        return [self.tool, "-db", "-f", self.write("haproxy.cfg", text)]


class Envoy(Peer):
    name = "envoy"
    lacks = {"sessions": ONLY_BY_SIGN_IN, "one-session": ONLY_BY_SIGN_IN}

    TYPES = "type.googleapis.com/envoy.extensions"

    def command(self):
        config = {"static_resources": {"listeners": [self.listener()], "clusters": self.clusters(), "secrets": self.secrets()}}
        path = self.write("envoy.json", json.dumps(config))
        return [self.tool, "--concurrency", 1, "--disable-hot-restart", "--log-level", "error", "-c", path]

    def sign_in(self):
        return Browser(self.origin).sign_in(self.setting.backend.sandbox)

    def listener(self):
        manager = {
            "stat_prefix": "public",
            "use_remote_address": True,
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "stream_idle_timeout": "300s",
            "http_filters": [
                self.extension("envoy.filters.http.oauth2", "filters.http.oauth2.v3.OAuth2", {"config": self.oauth2()}),
                self.extension("envoy.filters.http.router", "filters.http.router.v3.Router", {}),
            ],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/upwork/api/"}, "route": {"cluster": "app", "prefix_rewrite": "/api/", "timeout": "0s"}},
                {"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}},
            ]}]},
        }
        if self.stage.log:
            path = {"path": str(self.folder / "access.log")}
            manager["access_log"] = [self.extension("envoy.access_loggers.file", "access_loggers.file.v3.FileAccessLog", path)]
        name = "envoy.filters.network.http_connection_manager"
        kind = "filters.network.http_connection_manager.v3.HttpConnectionManager"
        chain = {"filters": [self.extension(name, kind, manager)]}
        if self.stage.tls:
            files = {"certificate_chain": {"filename": str(self.setting.certificate)}, "private_key": {"filename": str(self.setting.key)}}
            context = {"common_tls_context": {"tls_certificates": [files], "alpn_protocols": ["h2", "http/1.1"]}}
            chain["transport_socket"] = self.extension("envoy.transport_sockets.tls", "transport_sockets.tls.v3.DownstreamTlsContext", context)
        return {"name": "public", "address": self.address("127.0.0.1", self.port), "filter_chains": [chain]}

    def oauth2(self):
        upwork = self.setting.backend.sandbox
        return {
            "token_endpoint": {"cluster": "upwork", "uri": f"{upwork}/api/v3/oauth2/token", "timeout": "5s"},
            "authorization_endpoint": f"{upwork}/ab/account-security/oauth2/authorize",
            "redirect_uri": f"{self.origin}/callback",
            "redirect_path_matcher": {"path": {"exact": "/callback"}},
            "signout_path": {"path": {"exact": "/signout"}},
            "credentials": {"client_id": CLIENT_ID, "token_secret": {"name": "token"}, "hmac_secret": {"name": "hmac"}},
            "forward_bearer_token": True,
        }

    def clusters(self):
        found = [("app", self.setting.backend.port), ("upwork", urlsplit(self.setting.backend.sandbox).port)]
        return [
            {
                "name": name,
                "type": "STATIC",
                "connect_timeout": "5s",
                "load_assignment": {
                    "cluster_name": name,
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": self.address("127.0.0.1", port)}}]}],
                },
            }
            for name, port in found
        ]

    def secrets(self):
        values = {"token": CLIENT_SECRET, "hmac": "an arbitrary text of some length"}
        return [{"name": name, "generic_secret": {"secret": {"inline_string": value}}} for name, value in values.items()]

    def extension(self, name, kind, fields):
        return {"name": name, "typed_config": {"@type": f"{self.TYPES}.{kind}", **fields}}

    @staticmethod
    def address(host, port):
        return {"socket_address": {"address": host, "port_value": port}}


class Caddy(Peer):
    name = "caddy"
    lacks = {"sign-in": FORWARDS_ONLY}

    CONFIG = """
{{
  admin off
  auto_https off
  persist_config off
}}
{origin} {{
  bind 127.0.0.1
  {tls}
  {log}
  handle /upwork/api/* {{
    uri strip_prefix /upwork
    reverse_proxy {app} {{
      {transport}
      header_up -Cookie
      header_up Authorization "Bearer {bearer}"
    }}
  }}
  handle {{
    reverse_proxy {app} {{
      {transport}
    }}
  }}
}}
"""
    # By default it keeps 32 connections to the app, and would open new ones all the time.
    TRANSPORT = "transport http {\n        keepalive_idle_conns_per_host 128\n      }"

    def command(self):
        setting, stage = self.setting, self.stage
        text = self.CONFIG.format(
            origin=self.origin,
            tls=f"tls {setting.certificate} {setting.key}" if stage.tls else "",
            log=f"log {{\n    output file {self.folder}/access.log\n  }}" if stage.log else "",
            app=setting.backend.address,
            bearer=BEARER,
            transport=self.TRANSPORT,
        )
        return [self.tool, "run", "--adapter", "caddyfile", "--config", self.write("Caddyfile", text)]

    def environment(self):
        return {**os.environ, "GOMAXPROCS": "1", "XDG_DATA_HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}


class Oauth2Proxy(Peer):
    name = "oauth2-proxy"
    lacks = {
        "api": "it has no API to call",
        "sessions": ONLY_BY_SIGN_IN,
        "one-session": ONLY_BY_SIGN_IN,
    }

    def command(self):
        upwork, app, setting = self.setting.backend.sandbox, self.setting.backend.address, self.setting
        flags = {
            # The provider whose answer about the user is the plainest; the app gives it.
            "provider": "digitalocean",
            "login-url": f"{upwork}/ab/account-security/oauth2/authorize",
            "redeem-url": f"{upwork}/api/v3/oauth2/token",
            "profile-url": f"http://{app}/profile",
            "validate-url": f"http://{app}/profile",
            "redirect-url": f"{self.origin}/oauth2/callback",
            "client-id": CLIENT_ID,
            "client-secret": CLIENT_SECRET,
            "cookie-secret": "0123456789abcdef0123456789abcdef",
            "cookie-secure": "false",
            "email-domain": "*",
            "skip-provider-button": "true",
            "upstream": f"http://{app}",
            "request-logging": str(self.stage.log).lower(),
            "http-address": f"127.0.0.1:{self.admin if self.stage.tls else self.port}",
        }
        if self.stage.tls:
            tls = {"https-address": f"127.0.0.1:{self.port}", "tls-cert-file": setting.certificate, "tls-key-file": setting.key}
            flags.update(tls)
        return [self.tool] + [f"--{name}={value}" for name, value in flags.items()]

    def environment(self):
        return {**os.environ, "GOMAXPROCS": "1"}

    def sign_in(self):
        return Browser(self.origin).sign_in(self.setting.backend.sandbox)


KNOWN = [Nginx, Haproxy, Envoy, Caddy, Oauth2Proxy, Upwarden]


def available(setting, only):
    """The proxies that can be started here, nginx first, and why the others are not. nginx is what the others are compared
    with, and those that only forward get upwarden's session."""
    present, absent = [], {}
    for kind in KNOWN:
        if only and kind.name not in only and kind not in (Nginx, Upwarden):
            continue
        if kind.name in setting.tools.missing:
            absent[kind.name] = setting.tools.missing[kind.name]
        else:
            present.append(kind(setting))
    return present, absent
