"""The proxies: how each is configured, started and signed in to. Every one has a single worker thread.

nginx, HAProxy and Caddy only forward; Envoy, oauth2-proxy and upwarden ask who is there. Each sets the same
`X-Forwarded-*` fields, keeps its connections to the app, and writes an access log to a file where the stage has one.
"""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from . import backend as behind
from .browser import Browser, request
from .processes import NotReady, accepts, free_ports

CLIENT_ID = "0123456789abcdef0123456789abcdef"
CLIENT_SECRET = "0123456789abcdef"
BEARER = "oauth2v2_0123456789abcdef0123456789abcdef"
FORWARDS_ONLY = "it only forwards"


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

    SERVER = """
  map $http_upgrade $connection_field {{ default ""; websocket upgrade; }}
  upstream app {{ server {app}; keepalive 128; keepalive_requests 1000000000; keepalive_timeout 300s; }}
  server {{
    listen 127.0.0.1:{port} {tls} backlog=4096; {certificates}
    proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_read_timeout 300s;
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_field;
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    location / {{ proxy_pass http://app; }}
    location /upwork/api/ {{
      proxy_pass http://app/api/; proxy_set_header Cookie ""; proxy_set_header Authorization "Bearer {bearer}";
    }}
  }}
"""

    def command(self):
        setting, tls = self.setting, self.stage.tls
        certificates = f"ssl_certificate {setting.certificate}; ssl_certificate_key {setting.key};" if tls else ""
        server = self.SERVER.format(
            app=setting.backend.address, port=self.port, tls="ssl http2" if tls else "", certificates=certificates, bearer=BEARER
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
            "public.limits.connections": 20000,
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
        }
        if tls:
            pair = f'cert_file = "{self.setting.certificate}", key_file = "{self.setting.key}"'
            settings["public.tls.certificates"] = f"[{{ {pair} }}]"
        return [self.tool, "serve"] + [part for pair in settings.items() for part in ("--set", "{}={}".format(*pair))]

    def environment(self):
        ours = {key: value for key, value in os.environ.items() if not key.startswith("UPWARDEN_")}
        secrets = {"UPWARDEN_UPWORK__CLIENT_SECRET": CLIENT_SECRET, "UPWARDEN_SESSION__KEYS": ",".join(self.keys)}
        return {**ours, **secrets}

    def sign_in(self):
        return Browser(self.origin).sign_in(self.setting.backend.sandbox)


KNOWN = [Nginx, Upwarden]


def available(setting, only):
    """The proxies that can be started here, nginx first, and why the others are not."""
    present, absent = [], {}
    for kind in KNOWN:
        if only and kind.name not in only and kind is not Nginx:
            continue
        if kind.name in setting.tools.missing:
            absent[kind.name] = setting.tools.missing[kind.name]
        else:
            present.append(kind(setting))
    return present, absent
