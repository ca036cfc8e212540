"""Processes of a run: they end with it, and their CPU time and memory are read from /proc."""

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
FIRST_PORT, PORTS = 12_000, 20_000
_PORTS = itertools.count(os.getpid() * 32)


class NotReady(Exception):
    """A program did not come up."""


@dataclass(frozen=True)
class Cpu:
    """CPU time by thread, in seconds, and its shares as the kernel estimates them."""

    threads: dict
    user: float
    kernel: float

    def since(self, before):
        """Seconds of user and kernel time since an earlier reading."""
        total = sum(spent - before.threads.get(thread, 0.0) for thread, spent in self.threads.items())
        user, kernel = self.user - before.user, self.kernel - before.kernel
        share = user / (user + kernel) if user + kernel > 0 else 0.5
        return total * share, total * (1 - share)


UNUSED = Cpu({}, 0.0, 0.0)


class Program:
    """One started program with the processes it started itself."""

    def __init__(self, command, log, env):
        self.command, self.log = command, log
        with open(log, "wb") as out:
            # A session of its own: Ctrl-C reaches this script, which then ends its programs in order.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, start_new_session=True
            )

    def pids(self):
        """The process and its children, such as nginx's worker."""
        pid = self.process.pid
        found = [pid]
        for thread in _list(f"/proc/{pid}/task"):
            found += [int(child) for child in _read(f"/proc/{pid}/task/{thread}/children").split()]
        return found

    def cpu(self):
        """CPU time of all threads so far, from the scheduler's accounting (nanoseconds)."""
        threads, user, kernel = {}, 0.0, 0.0
        for pid in self.pids():
            for thread in _list(f"/proc/{pid}/task"):
                spent = _read(f"/proc/{pid}/task/{thread}/schedstat").split()
                if spent:
                    threads[thread] = int(spent[0]) / 1e9
            fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            if fields:
                user += int(fields[11]) / TICKS
                kernel += int(fields[12]) / TICKS
        return Cpu(threads, user, kernel)

    def memory(self):
        """Bytes of memory. What processes share is counted once (proportional set size)."""
        total = 0
        for pid in self.pids():
            found = re.search(r"^Pss:\s+(\d+)", _read(f"/proc/{pid}/smaps_rollup"), re.M)
            found = found or re.search(r"^VmRSS:\s+(\d+)", _read(f"/proc/{pid}/status"), re.M)
            total += int(found[1]) * 1024 if found else 0
        return total

    def wait_for(self, ready, seconds=30):
        """Waits until `ready()` is true."""
        end = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None or time.monotonic() > end:
                print(Path(self.log).read_text(errors="replace")[-2000:], file=sys.stderr)
                raise NotReady("it does not come up (its log is on stderr)")
            time.sleep(0.02)

    def stop(self):
        """Ends it: politely, and after five seconds by force."""
        children = [pid for pid in self.pids() if pid != self.process.pid]
        for end in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is not None:
                break
            self.process.send_signal(end)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                continue
        for pid in children:
            _kill_child(pid, self.process.pid)


class Programs:
    """All programs of a run. Leaving the `with` block ends those that still run, the newest first."""

    def __init__(self, folder):
        self.folder, self.running = folder, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        while self.running:
            self.running.pop().stop()

    def start(self, name, command, env=None):
        program = Program([str(part) for part in command], self.folder / f"{name}.log", env)
        self.running.append(program)
        return program

    def stop(self, program):
        if program in self.running:
            self.running.remove(program)
            program.stop()


def free_ports(count):
    """Ports of loopback that are free now, each only once. They are below those that the system gives to connections and
    to sockets on port 0, so that no other program takes one before it is used; each process begins at another place."""
    found = []
    while len(found) < count:
        port = FIRST_PORT + next(_PORTS) % PORTS
        try:
            socket.create_server(("127.0.0.1", port)).close()
            found.append(port)
        except OSError:
            continue
    return found


def accepts(port):
    """Whether something listens on this port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def _kill_child(pid, parent):
    """Ends a child that outlived its parent; a process that took over its id has another session."""
    try:
        if os.getsid(pid) == parent:
            os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _read(path):
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _list(path):
    try:
        return os.listdir(path)
    except OSError:
        return []
