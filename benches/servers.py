"""The processes of the benchmark: starts them, asks them, and tells what they have used.

Need: what an answer costs the process that gives it, to the microsecond, whatever else the machine does.
Rule: CPU is read from the process's own clock, which counts threads that have ended too and is kept in nanoseconds; memory
is the kernel's word. A process and its children are one (nginx answers in a child).
"""

import http.client
import os
import re
import shutil
import socket
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from children import FOR_DEMO, Child, free_port

TOOLS = {**FOR_DEMO, "nginx": "nginx-light", "wrk": "wrk"}
SCHEDULED = 2  # CPUCLOCK_SCHED of the kernel: what was run, in nanoseconds


def pids_of(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [pid] + [int(child) for child in (children.read_text().split() if children.exists() else [])]


def cpu_seconds(pid):
    """What the process and its children have used since they began. A sum over the threads that are there would lose what
    those had used that have ended since; this clock does not."""
    return sum(time.clock_gettime((~one << 3) | SCHEDULED) for one in pids_of(pid))


class Strangers:
    """How many cores others used, so that a reader knows which figures to doubt: all that the machine did, without what the
    benchmark and those that it measures did."""

    def __init__(self, pids):
        self.pids, self.cores = pids, 0.0
        self.last = self._now()

    def _now(self):
        user, nice, system, _, _, *rest = (int(ticks) for ticks in Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
        own = os.times()
        ours = sum(own[:4]) + sum(cpu_seconds(pid) for pid in self.pids())
        return time.monotonic(), (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK"), ours

    def lately(self):
        """Since this was asked last; what it was then, if that is hardly ago."""
        now = self._now()
        passed, busy, ours = (new - old for new, old in zip(now, self.last))
        if passed > 0.2:
            self.cores, self.last = max(0.0, (busy - ours) / passed), now
        return self.cores


def memory(pid, what):
    """`VmRSS` or `VmHWM`, in bytes."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(found.group(1)) * 1024


def forget_peak(pid):
    """`VmHWM` is counted anew from here."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def confine(pids, cores):
    for thread in (thread for pid in pids for one in pids_of(pid) for thread in os.listdir(f"/proc/{one}/task")):
        try:
            os.sched_setaffinity(int(thread), cores)
        except ProcessLookupError:
            pass  # It has just ended.


@contextmanager
def on_one_core(pids):
    """Who asks and who answers share a core meanwhile. What sending costs depends on whether it is read while it is written (for
    nginx by three times), and so on how busy the machine is; on one core it is always read afterwards."""
    all_cores, everybody = os.sched_getaffinity(0), [os.getpid(), *pids]
    confine(everybody, {max(all_cores)})
    try:
        yield
    finally:
        confine(everybody, all_cores)


@dataclass
class Target:
    """Somebody who answers: where, and which process."""

    name: str
    port: int
    pid: int
    host: str = "127.0.0.1"
    prefix: str = ""

    def get(self, path, encoding="identity"):
        """The answer's head and its whole body, as it was sent; the benchmark ends when it is no 200."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=300)
        connection.request("GET", self.prefix + path, headers={"accept-encoding": encoding})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        if response.status != 200:
            sys.exit(f"bench: {self.name}: {response.status} to {path[:160]}: {body[:300].decode(errors='replace')}")
        return response, body

    def fetch(self, path, encoding="identity"):
        """Reads an answer to its end on a connection of its own and keeps nothing of it, so that the client costs as little
        as it can. Returns the seconds to the first byte of the body and to the last."""
        head = f"GET {self.prefix}{path} HTTP/1.1\r\nhost: {self.host}\r\naccept-encoding: {encoding}\r\nconnection: close\r\n\r\n"
        room, seen, first = bytearray(1 << 20), b"", None
        with socket.create_connection((self.host, self.port), timeout=300) as connection:
            begun = time.perf_counter()
            connection.sendall(head.encode())
            while count := connection.recv_into(room):
                if first is None:
                    seen += room[:count]
                    if seen.partition(b"\r\n\r\n")[2]:
                        first = time.perf_counter() - begun
            last = time.perf_counter() - begun
        if not seen.startswith(b"HTTP/1.1 200 ") or first is None:
            sys.exit(f"bench: {self.name}: no answer to {path[:160]}: {seen[:300].decode(errors='replace')}")
        return first, last

    def cpu_of(self, work):
        """What `work` costs the process, in seconds of CPU, and what `work` gives."""
        before = cpu_seconds(self.pid)
        outcome = work()
        return cpu_seconds(self.pid) - before, outcome

    def metric(self, name, but=None):
        """The sum of a metric of promfront's over its labels, without those that have `but` in them."""
        lines = re.findall(rf"^promfront_{name}(\{{.*\}})? (\S+)", self.get("/metrics")[1].decode(), re.M)
        return sum(float(value) for labels, value in lines if but is None or but not in labels)


class Servers:
    """All that runs in one go, in a folder of its own."""

    def __init__(self, work):
        self.work, self.children = work, []
        self.files = work / "files"
        self.files.mkdir()
        os.chmod(work, 0o755)

    def _run(self, name, command, port, ready):
        child = Child(name, command, self.work / f"{name}-{port}.log")
        self.children.append(child)
        child.wait_ready(f"http://127.0.0.1:{port}{ready}", 120)
        return Target(name, port, child.process.pid)

    def prometheus(self, blocks, port):
        """The blocks are linked, so that a server that writes its head writes beside them."""
        config, data = self.work / "prometheus.yml", self.work / "data"
        config.write_text("global: {}\n")
        shutil.copytree(blocks, data, copy_function=os.link)
        return self._run("prometheus", [
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}", f"--web.listen-address=127.0.0.1:{port}",
            "--storage.tsdb.retention.time=100y", "--log.level=warn", "--query.max-samples=500000000",
            "--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h"], port, "/-/ready")

    def promfront(self, program, downstream):
        port = free_port()
        return self._run("promfront", [
            str(program.resolve()), f"--downstream.url=http://127.0.0.1:{downstream.port}",
            f"--web.listen-address=127.0.0.1:{port}", "--web.max-connections=4096"], port, "/-/ready")

    @contextmanager
    def fresh_promfront(self, program, downstream):
        """One that has answered nothing yet, for as long as it is needed."""
        target = self.promfront(program, downstream)
        try:
            yield target
        finally:
            self.children.pop().stop()

    def nginx(self, prometheus):
        """Sends what lies in `files`, and what lies packed beside it to who takes it. Below `/through` it asks Prometheus, and hands on
        what comes."""
        port, work, config = free_port(), self.work, self.work / "nginx.conf"
        config.write_text(f"""
            daemon off; worker_processes 1; pid {work}/nginx.pid; error_log {work}/nginx-error.log;
            events {{ worker_connections 2048; }}
            http {{ access_log off; sendfile on; gzip_static on; default_type application/json; keepalive_requests 1000000;
                    client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3;
                    uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;
                    upstream prometheus {{ server 127.0.0.1:{prometheus.port}; keepalive 8; }}
                    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffers 64 64k;
                    server {{ listen 127.0.0.1:{port}; root {self.files}; location = /ready {{ return 200; }}
                              location /through/ {{ proxy_pass http://prometheus/; }} }} }}
        """)
        return self._run("nginx", ["nginx", "-e", f"{work}/nginx-error.log", "-c", str(config)], port, "/ready")

    def pids(self):
        return [child.process.pid for child in self.children]

    def stop(self):
        for child in reversed(self.children):
            child.stop()
