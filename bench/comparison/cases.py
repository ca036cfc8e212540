"""What is measured: one `Case` each. Every case is the same work for every proxy, and all of its requests must succeed."""

from dataclasses import asdict, dataclass

from .load import CONNECTIONS
from .peers import Stage

PLAIN = Stage("plain")
UNLOGGED = Stage("without access log", log=False)

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
    # Whether every round begins with a fresh process.
    fresh: bool = False


@dataclass(frozen=True)
class Work:
    """What a measurement has: the options, the load generator and the folder of the run."""

    options: object
    h2load: object
    folder: object


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


def requests(path="/", fields=None, **how):
    """Requests over 64 kept connections, as fast as they are answered; then at half that rate for the times of the answers."""

    def measure(work, peer):
        headers = {**(fields or {}), "Cookie": peer.cookie}
        run = lambda count, **more: work.h2load.run(peer.origin + path, count, headers, **how, **more)
        # A first run warms the connections to the app up, and shows how many requests fill the time.
        first = run(work.options.warm_up)
        count = max(int(work.options.seconds * first.count / first.seconds), CONNECTIONS)
        answers, sample = costs(peer, lambda: run(count), lambda answers: answers.count)
        sample.per_second = answers.count / answers.seconds
        half = run(max(count // 2, CONNECTIONS), rate=sample.per_second / 2)
        sample.p50, sample.p99 = half.percentile(0.5), half.percentile(0.99)
        return sample

    return measure


CASES = [
    Case("get", "small GET, signed in, 64 connections", requests()),
    Case("get-browser", "the same with a browser's 13 fields", requests(fields=BROWSER)),
    Case("get-unlogged", "small GET without access log", requests(), UNLOGGED),
]
