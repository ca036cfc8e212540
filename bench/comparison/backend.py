"""What stands behind every proxy: an nginx as the app and as Upwork's API, a WebSocket echo, and upwarden's sandbox."""

import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from .processes import accepts, free_ports

# The body of a small answer.
SMALL = b"ok"
DOWNLOAD = 1 << 20

NGINX = """
{user}
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log warn; worker_rlimit_nofile {files};
events {{ worker_connections {files}; }}
http {{
  access_log {log}; keepalive_requests 1000000000; keepalive_timeout 300s; default_type application/json;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi; large_client_header_buffers 8 32k;
{servers}
}}
"""
APP = """
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ return 200 "ok"; }}
    location = /profile {{ return 200 '{{"account":{{"email":"foo@example.com"}}}}'; }}
    location = /download {{ alias {folder}/download; }}
    location = /websocket {{
      proxy_pass http://127.0.0.1:{echo}; proxy_http_version 1.1; proxy_read_timeout 300s;
      proxy_set_header Upgrade websocket; proxy_set_header Connection Upgrade;
    }}
  }}
"""


@dataclass(frozen=True)
class Backend:
    """The addresses behind the proxies."""

    port: int
    sandbox: str

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"


def nginx_config(folder, servers, log="off"):
    """A configuration of nginx with one worker that keeps all its files in a folder of the run."""
    folder.mkdir(exist_ok=True)
    user = "user root;" if os.geteuid() == 0 else ""
    path = folder / "nginx.conf"
    path.write_text(NGINX.format(user=user, folder=folder, files=file_limit(), log=log, servers=servers))
    return path


def start(programs, tools, folder):
    app, echo, sandbox, control = free_ports(4)
    place = folder / "app"
    place.mkdir()
    (place / "download").write_bytes(bytes(DOWNLOAD))
    config = nginx_config(place, APP.format(port=app, folder=place, echo=echo))
    programs.start("echo", [sys.executable, Path(__file__).with_name("echo.py"), echo]).wait_for(lambda: accepts(echo))
    nginx = programs.start("app", [tools.found["nginx"], "-p", place, "-c", config])
    nginx.wait_for(lambda: accepts(app))
    listen = ["--listen", f"127.0.0.1:{sandbox}", "--control", f"127.0.0.1:{control}"]
    upwork = programs.start("sandbox", [tools.found["upwarden"], "sandbox", *listen])
    upwork.wait_for(lambda: accepts(sandbox))
    return Backend(app, f"http://127.0.0.1:{sandbox}")


def file_limit():
    """Raises the limit of open files as far as the system allows, for this process and those it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 20 if hard == resource.RLIM_INFINITY else min(hard, 1 << 20)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
