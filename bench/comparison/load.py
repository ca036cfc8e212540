"""Load: h2load (of nghttp2) for requests, and a small generator of our own for what h2load cannot do."""

import selectors
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass, field

CONNECTIONS = 64


class LoadFailed(Exception):
    """Not every request was answered as it should be."""


@dataclass(frozen=True)
class Answers:
    """What came back: how many answers, in how many seconds, and the times of the answers in microseconds."""

    count: int
    seconds: float
    times: list = field(default_factory=list)

    def percentile(self, share):
        """In milliseconds."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1000 if ordered else None


class H2load:
    """Runs h2load with one thread and reads its log of every request."""

    def __init__(self, tool, programs):
        self.tool, self.programs = tool, programs

    def run(self, url, count, headers, *, connections=CONNECTIONS, body=None, http2=False, rate=None, anew=None):
        """`count` requests; all must be answered with 2xx. `rate` is in requests a second, `anew` in connections a second."""
        log = self.programs.folder / "requests.tsv"
        log.unlink(missing_ok=True)
        command = [self.tool, "-n", count, "-c", min(connections, count), "--log-file", log]
        command += [] if http2 else ["--h1"]
        command += ["-m", 10] if http2 else []
        command += ["-d", body] if body else []
        # One connection a millisecond, so that the connections do not send in step.
        command += ["--rps", rate / connections, "--rate", 1, "--rate-period", "1ms"] if rate else []
        command += ["--rate", anew] if anew else []
        command += [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
        done = subprocess.run([str(part) for part in command + [url]], capture_output=True, text=True, start_new_session=True)
        rows = [line.split("\t") for line in log.read_text().splitlines()] if log.exists() else []
        good = sum(row[1].startswith("2") for row in rows)
        if done.returncode != 0 or good != count:
            raise LoadFailed(f"{good} of {count} requests were answered with 2xx: {done.stdout[-800:]}{done.stderr[-400:]}")
        times = [int(row[2]) for row in rows]
        ends = [int(row[0]) + int(row[2]) for row in rows]
        return Answers(count, (max(ends) - min(int(row[0]) for row in rows)) / 1e6, times)


def connect(port, tls):
    connection = socket.create_connection(("127.0.0.1", port), 20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # The certificate is made for this run.
    return ssl._create_unverified_context().wrap_socket(connection) if tls else connection


def exchange(connections, messages, complete):
    """Sends the messages over open connections, one at a time on each, until they are used up; calls `complete` with what
    has arrived, which says whether the answer is whole."""
    waiting, arrived, sent, count = selectors.DefaultSelector(), {}, {}, 0
    times, began = [], time.monotonic()
    messages = iter(messages)

    def send(connection):
        message = next(messages, None)
        if message is None:
            waiting.unregister(connection)
            arrived.pop(connection)
            return
        arrived[connection], sent[connection] = b"", time.monotonic()
        connection.sendall(message)

    for connection in connections:
        waiting.register(connection, selectors.EVENT_READ)
        send(connection)
    while arrived:
        ready = waiting.select(20)
        if not ready:
            raise LoadFailed("no answer for 20 seconds")
        for key, _ in ready:
            connection = key.fileobj
            data = connection.recv(65536)
            arrived[connection] += data
            if complete(arrived[connection]):
                count += 1
                times.append((time.monotonic() - sent[connection]) * 1e6)
                send(connection)
            elif not data:
                raise LoadFailed(f"closed after {arrived[connection][:300]!r}")
    return Answers(count, time.monotonic() - began, times)
