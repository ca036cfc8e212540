"""Signs in as a browser would: follows redirects, keeps cookies, and accepts on the sandbox's consent page."""

import http.client
import ssl
from urllib.parse import urljoin, urlsplit

NAVIGATION = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
CONSENT = "account={account}&decision=accept"
# An account of the sandbox.
ACCOUNT = "1181921839933591552"


class SignInFailed(Exception):
    """The proxy did not let the browser in."""


class Browser:
    """Keeps the cookies of one origin."""

    def __init__(self, origin):
        self.origin, self.cookies = origin, {}

    def sign_in(self, sandbox, account=ACCOUNT):
        """Opens `/`, accepts at the sandbox, and follows to the app; the cookies as a request sends them."""
        url = self.origin + "/"
        for _ in range(8):
            at_sandbox = url.startswith(sandbox + "/")
            status, location, body = self._consent(url, account) if at_sandbox else self._open(url)
            if not at_sandbox and status == 200:
                return self.cookie()
            if not location:
                raise SignInFailed(f"{url.partition('?')[0]} answered {status}: {body[:300]!r}")
            url = urljoin(url, location)
        raise SignInFailed("too many redirects")

    def cookie(self):
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def _open(self, url):
        headers = dict(NAVIGATION, Cookie=self.cookie()) if self.cookies else NAVIGATION
        return self._keep(request("GET", url, headers))

    def _consent(self, url, account):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = request("POST", url, form, CONSENT.format(account=account).encode())
        return answer.status, answer.getheader("Location"), answer.text

    def _keep(self, answer):
        for line in answer.headers.get_all("Set-Cookie") or []:
            pair, _, attributes = line.partition(";")
            name, _, value = pair.strip().partition("=")
            if not value or "max-age=0" in attributes.lower().replace(" ", ""):
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer.status, answer.getheader("Location"), answer.text


def request(method, url, headers, body=None):
    """One request on a connection of its own; the response with its body as `text`."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        # The certificate is made for this run, and no one else can listen on its port.
        trusting = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=20, context=trusting)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    try:
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        answer.text = answer.read()
        return answer
    finally:
        connection.close()
