"""What is measured: one `Case` each. Every case is the same work for every proxy, and all of its requests must succeed."""

import time
from dataclasses import asdict, dataclass, field
from statistics import median

from . import echo, sessions
from .load import CONNECTIONS, LoadFailed, connect, exchange
from .peers import Stage
from .processes import UNUSED

PLAIN = Stage("plain")
UNLOGGED = Stage("without access log", log=False)
TLS = Stage("TLS", tls=True)
SESSIONS = Stage("sessions")
# Handshakes a second: few enough for every proxy.
HANDSHAKES = 300

# What Chromium sends beside Cookie with a navigation.
BROWSER = {
    "Connection": "keep-alive",
    "sec-ch-ua": '"Chromium";v="142", "Not_A Brand";v="99"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
    "Upgrade-Insecure-Requests": "1",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-User": "?1",
    "Sec-Fetch-Dest": "document",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9",
}


@dataclass
class Sample:
    """What one proxy cost in one round. `figure` is what the case is about, in the case's unit; what was not measured is None."""

    figure: float = None
    user: float = None
    kernel: float = None
    per_second: float = None
    p50: float = None
    p99: float = None
    memory: float = None

    def fields(self):
        return asdict(self)


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    measure: object
    stage: Stage = PLAIN
    unit: str = "CPU µs"
    # Whether every measurement begins with a fresh process.
    fresh: bool = False
    # Called once before the first round, with the proxies that run.
    prepare: object = None


@dataclass(frozen=True)
class Work:
    """What a measurement has: the options, the load generator, the folder of the run, and what is left of the session
    cookies for each proxy."""

    options: object
    h2load: object
    folder: object
    cookies: dict = field(default_factory=dict)


def costs(peer, work, count_of):
    """Runs `work` and gives the CPU time of the proxy's own processes by answer, in microseconds."""
    before = peer.program.cpu()
    result = work()
    user, kernel = peer.program.cpu().since(before)
    count = count_of(result)
    return result, Sample(
        figure=(user + kernel) / count * 1e6,
        user=user / count * 1e6,
        kernel=kernel / count * 1e6,
        memory=peer.program.memory() / (1 << 20),
    )


def requests(path="/", fields=None, body=None, **how):
    """Requests over kept connections, as fast as they are answered; then at half that rate for the times of the answers."""

    def measure(work, peer):
        run = runner(work, peer, path, fields, body, how)
        # A first run warms the connections to the app up, and shows how many requests fill the time.
        first = run(work.options.warm_up)
        count = max(int(work.options.seconds * first.count / first.seconds), CONNECTIONS)
        answers, sample = costs(peer, lambda: run(count), lambda answers: answers.count)
        sample.per_second = answers.count / answers.seconds
        half = run(max(count // 2, CONNECTIONS), rate=sample.per_second / 2)
        sample.p50, sample.p99 = half.percentile(0.5), half.percentile(0.99)
        return sample

    return measure


def runner(work, peer, path="/", fields=None, body=None, how=None):
    """A function that has h2load make this many requests as the signed-in user."""
    headers, how = {**(fields or {}), "Cookie": peer.cookie}, dict(how or {})
    if body:
        how["body"] = work.folder / "body"
        how["body"].write_bytes(body)
    return lambda count, **more: work.h2load.run(peer.origin + path, count, headers, **how, **more)


def fixed_rate(work, peer):
    """The same number of requests a second for every proxy."""
    run, rate = runner(work, peer), work.options.rate
    run(work.options.warm_up)
    count = max(int(work.options.seconds * rate), CONNECTIONS)
    answers, sample = costs(peer, lambda: run(count, rate=rate), lambda answers: answers.count)
    sample.per_second, sample.p50, sample.p99 = answers.count / answers.seconds, answers.percentile(0.5), answers.percentile(0.99)
    return sample


def handshakes(work, peer):
    """One request on each of many new TLS connections. h2load resumes no TLS session."""
    run = runner(work, peer)
    count = max(int(work.options.seconds * HANDSHAKES), CONNECTIONS)
    _, sample = costs(peer, lambda: run(count, connections=count, anew=min(HANDSHAKES, count)), lambda answers: answers.count)
    return sample


def websocket(work, peer):
    """Messages of 32 bytes that the app echoes, one at a time on each of 64 connections."""
    connections = [connect(peer.port, peer.stage.tls) for _ in range(CONNECTIONS)]
    ask = get(peer, "/websocket", echo.UPGRADE + f"Origin: {peer.origin}\r\n")
    exchange(connections, [ask] * CONNECTIONS, upgraded)
    whole = lambda arrived: len(arrived) == len(echo.ECHO)
    run = lambda count: exchange(connections, [echo.MESSAGE] * count, whole)
    first = run(work.options.warm_up)
    count = int(work.options.seconds * first.count / first.seconds)
    answers, sample = costs(peer, lambda: run(count), lambda answers: answers.count)
    sample.per_second = answers.count / answers.seconds
    for connection in connections:
        connection.close()
    return sample


def upgraded(arrived):
    head, end, _ = arrived.partition(b"\r\n\r\n")
    if end and not head.startswith(b"HTTP/1.1 101 "):
        raise LoadFailed(f"the upgrade was answered with {head[:200]!r}")
    return bool(end)


def idle(work, peer):
    """KiB of memory for each connection that was used once and is idle."""

    def used():
        connection = connect(peer.port, peer.stage.tls)
        exchange([connection], [get(peer)], sessions.whole)
        return connection

    # What the first connections allocate is no cost of a connection.
    for connection in [used() for _ in range(200)]:
        connection.close()
    time.sleep(1)
    before = peer.program.memory()
    connections = [used() for _ in range(work.options.idle)]
    time.sleep(1)
    after = peer.program.memory()
    for connection in connections:
        connection.close()
    return Sample(figure=(after - before) / len(connections) / 1024, memory=after / (1 << 20))


def start(work, peer):
    """Milliseconds from the start of the process to its first 200, and of CPU time, as the median of some starts."""
    passed, spent = [], []
    for _ in range(work.options.starts):
        passed.append(peer.first_answer())
        spent.append(peer.program.cpu().since(UNUSED))
    user, kernel = (median(part) * 1000 for part in zip(*spent))
    return Sample(figure=median(passed), user=user, kernel=kernel, memory=peer.program.memory() / (1 << 20))


def sign_ins(work, peer):
    """Whole sign-ins, one after the other: the first redirect, the callback, and the app's first answer."""
    count = work.options.sign_ins
    _, sample = costs(peer, lambda: [peer.sign_in() for _ in range(count)], lambda _: count)
    return sample


def one_session(work, peer):
    """The load of the case `sessions` with one session, for comparison."""
    return by_session(work, peer, [peer.cookie] * (work.options.sessions // work.options.rounds))


def many_sessions(work, peer):
    """Every request has a session of its own. The rounds together use all of them."""
    cookies = work.cookies.setdefault(peer.name, sessions.read(work.folder))
    part = work.options.sessions // work.options.rounds
    return by_session(work, peer, [next(cookies) for _ in range(part)])


def by_session(work, peer, cookies):
    connections = [connect(peer.port, peer.stage.tls) for _ in range(CONNECTIONS)]
    messages = [get(peer, cookie=cookie) for cookie in cookies]
    answers, sample = costs(peer, lambda: exchange(connections, messages, sessions.whole), lambda answers: answers.count)
    sample.per_second = answers.count / answers.seconds
    for connection in connections:
        connection.close()
    return sample


def get(peer, path="/", fields="", cookie=None):
    """The bytes of a request."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{peer.port}\r\nCookie: {cookie or peer.cookie}\r\n{fields}\r\n".encode()


CASES = [
    Case("get", "small GET, signed in, 64 connections", requests()),
    Case("get-browser", "the same with a browser's 13 fields", requests(fields=BROWSER)),
    Case("get-rate", "the same at a fixed rate", fixed_rate),
    Case("get-unlogged", "small GET without access log", requests(), UNLOGGED),
    Case("post", "POST of 16 KiB", requests(fields={"Sec-Fetch-Site": "same-origin"}, body=bytes(16 << 10))),
    Case("download", "download of 1 MiB", requests("/download", connections=16)),
    Case("api", "call of the API", requests("/upwork/api/hr/v2/users/me.json", {"Sec-Fetch-Site": "same-origin"})),
    Case("websocket", "WebSocket message", websocket),
    Case("tls", "small GET, TLS kept alive", requests(), TLS),
    Case("handshake", "TLS handshake with one GET", handshakes, TLS),
    Case("http2", "small GET, HTTP/2 over TLS", requests(http2=True), TLS),
    Case("sign-in", "whole sign-in", sign_ins),
    Case("one-session", "small GET, one session (see the next)", one_session, SESSIONS),
    Case("sessions", "small GET, each with its own session", many_sessions, SESSIONS, prepare=sessions.make),
    Case("idle", "memory of an idle connection", idle, unit="KiB", fresh=True),
    Case("start", "start to the first 200", start, unit="ms", fresh=True),
]
