"""Makes many sessions of upwarden quickly.

A session that was sealed under an older key is sealed anew in every answer, with a salt of its own. So some people sign in, the
key is replaced, and each request with an old cookie brings a new one. No two are alike, and each has to be opened.
"""

import re

from .backend import SMALL
from .load import CONNECTIONS, LoadFailed, connect, exchange

SIGN_INS = 100
FILE = "cookies"


def make(work, peers):
    """Writes as many cookies as the options ask for into the folder of the run."""
    peer = next((peer for peer in peers if peer.name == "upwarden"), None)
    if peer is None:
        raise LoadFailed("upwarden does not run, and the sessions are its own")
    old = [peer.sign_in() for _ in range(min(SIGN_INS, work.options.sessions))]
    peer.keys.insert(0, peer.new_key())
    _restart(peer)
    connections = [connect(peer.port, peer.stage.tls) for _ in range(CONNECTIONS)]
    asks = (_get(peer, old[turn % len(old)]) for turn in range(work.options.sessions))
    with open(work.folder / FILE, "w") as out:
        exchange(connections, asks, lambda arrived: whole(arrived) and _keep(arrived, out))
    # From now on only the new key counts, so that nothing is sealed anew.
    del peer.keys[1:]
    _restart(peer)
    peer.cookie = next(read(work.folder))


def read(folder):
    """The cookies, one after the other."""
    with open(folder / FILE) as lines:
        for line in lines:
            yield line.rstrip("\n")


def whole(arrived):
    """Whether the app's small answer has arrived."""
    if not arrived.endswith(b"\r\n\r\n" + SMALL):
        return False
    if not arrived.startswith(b"HTTP/1.1 200 "):
        raise LoadFailed(f"answered with {arrived[:200]!r}")
    return True


def _keep(arrived, out):
    cookie = re.search(rb"(?im)^set-cookie: ([^;\r]+)", arrived)
    if not cookie:
        raise LoadFailed("a session under the old key was not sealed anew")
    out.write(cookie[1].decode() + "\n")
    return True


def _restart(peer):
    peer.stop()
    peer.start(peer.stage)


def _get(peer, cookie):
    return f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{peer.port}\r\nCookie: {cookie}\r\n\r\n".encode()
