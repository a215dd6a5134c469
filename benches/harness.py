#!/usr/bin/env python3
"""`make bench`: what an answer costs promfront, beside nginx that sends the same bytes from a file, and beside Prometheus.

Need: figures that mean something on any machine. Rule: everything is measured side by side in one run, as CPU time of the process
that answers (its own accounting, in /proc) over answers that were really sent; the ratio is what counts. Nothing is measured that
was not compared first: promfront's bytes are the server's.
"""

import sys

sys.dont_write_bytecode = True

import argparse
import gzip
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "demo"))

import panels
from children import FOR_DEMO, PATH, Child, ensure, free_port

TOOLS = {**FOR_DEMO, "nginx": "nginx-light", "wrk": "wrk"}
DAY = 86400


def parse_args():
    parser = argparse.ArgumentParser(description="Measure promfront beside nginx and Prometheus.")
    parser.add_argument("--promfront", type=Path, default=Path("target/release/promfront"), metavar="PATH")
    parser.add_argument("--data", type=Path, default=Path("target/bench-data"), metavar="DIR", help="kept between runs")
    parser.add_argument("--days", type=int, default=30, metavar="N", help="days of data")
    parser.add_argument("--seconds", type=float, default=4, metavar="S", help="how long each row is asked for")
    parser.add_argument("--only", metavar="REGEX", help="rows to run")
    parser.add_argument("--extra", action="append", default=[], metavar="NAME=URL=PID",
                        help="another proxy before the same Prometheus (see --port), as a column of its own")
    parser.add_argument("--port", type=int, default=0, help="where Prometheus listens (default: any free port)")
    args = parser.parse_args()
    for extra in args.extra:
        if len(extra.split("=")) < 3 or not extra.rsplit("=", 1)[1].isdigit():
            parser.error(f"--extra {extra}: write NAME=URL=PID, for example thanos=http://127.0.0.1:10902=4711")
    if not os.access(args.promfront, os.X_OK):
        parser.error(f"{args.promfront} is not a program: build it first (cargo build --release), or run `make bench`")
    return args


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


# ---- The processes.

def pids_of(pid):
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [pid] + [int(child) for child in (children.read_text().split() if children.exists() else [])]


def cpu_seconds(pid):
    """What the process and its children have used, in seconds of CPU: the scheduler's own count, which is in nanoseconds."""
    total = 0
    for one in pids_of(pid):
        for thread in Path(f"/proc/{one}/task").iterdir():
            try:
                total += int((thread / "schedstat").read_text().split()[0])
            except OSError:
                pass  # It has just ended.
    return total / 1e9


def memory(pid, what):
    """`VmRSS` or `VmHWM`, in bytes."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(found.group(1)) * 1024 if found else 0


def forget_peak(pid):
    """The peak is counted anew from here."""
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError:
        pass


@dataclass
class Target:
    """Somebody who answers: where, and which process."""

    name: str
    port: int
    pid: int
    host: str = "127.0.0.1"
    prefix: str = ""

    def get(self, path, headers=None):
        """(status, headers, body, seconds to the first byte, seconds to the last)."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=300)
        begun = time.perf_counter()
        connection.request("GET", self.prefix + path, headers=headers or {})
        response = connection.getresponse()
        first = response.read(1)
        to_first = time.perf_counter() - begun
        body = first + response.read()
        to_last = time.perf_counter() - begun
        connection.close()
        return response, body, to_first, to_last

    def cpu_of(self, work):
        """What `work` costs the process, in seconds of CPU, and what `work` gives."""
        before = cpu_seconds(self.pid)
        outcome = work()
        return cpu_seconds(self.pid) - before, outcome


# ---- The load.

LUA = """
local paths, at = {}, 0
for line in io.lines("%s") do paths[#paths + 1] = line end
request = function()
    at = at %% #paths + 1
    return wrk.format("GET", paths[at])
end
done = function(summary, latency)
    io.write(string.format("JSON {\\"requests\\": %%d, \\"bytes\\": %%d, \\"us\\": %%d, \\"errors\\": %%d, \\"p50\\": %%f, \\"p99\\": %%f}\\n",
        summary.requests, summary.bytes, summary.duration,
        summary.errors.connect + summary.errors.read + summary.errors.status + summary.errors.timeout,
        latency:percentile(50), latency:percentile(99)))
end
"""


def load(target, paths, seconds, work, connections=4, headers=()):
    """Asks for the paths in turn, as fast as answers come. Returns what wrk counted, and CPU seconds an answer."""
    listed = work / "paths.txt"
    listed.write_text("".join(target.prefix + path + "\n" for path in paths))
    script = work / "load.lua"
    script.write_text(LUA % listed)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "60s", "-s", str(script)]
    for header in headers:
        command += ["-H", header]
    command.append(f"http://{target.host}:{target.port}")
    cpu, done = target.cpu_of(lambda: subprocess.run(command, capture_output=True, text=True, check=False))
    told = re.search(r"^JSON (.*)$", done.stdout, re.M)
    if not told:
        sys.exit(f"bench: wrk said nothing of use about {target.name}:\n{done.stdout}{done.stderr}")
    counted = json.loads(told.group(1))
    if counted["errors"] or not counted["requests"]:
        sys.exit(f"bench: {target.name}: {counted['errors']} errors, {counted['requests']} answers")
    return {**counted, "cpu": cpu / counted["requests"]}


# ---- The questions.

def question(query, start, end, step):
    return "/api/v1/query_range?" + urlencode({"query": query, "start": start, "end": end, "step": step})


def dashboard(end, days, step, interval=60):
    """Twelve panels as Grafana would ask for them."""
    rate = panels.duration(max(step + interval, 4 * interval))
    end = end // step * step
    chosen = [(name, query) for name, query in panels.PANELS if "offset" not in query and "subquery" not in name][:12]
    return [question(query.replace("$__rate_interval", rate), end - days * DAY, end, step) for _, query in chosen]


def selector_of(prometheus, series, at):
    """A selector of about so many series, by the names of the metrics."""
    path = "/api/v1/query?" + urlencode({"query": 'count by (__name__) ({__name__!=""})', "time": at})
    counts = json.loads(prometheus.get(path)[1])["data"]["result"]
    names, total = [], 0
    for one in sorted(counts, key=lambda one: -int(one["value"][1])):
        if total + int(one["value"][1]) <= series * 1.02:
            names.append(one["metric"]["__name__"])
            total += int(one["value"][1])
    return '{__name__=~"' + "|".join(names) + '"}', total


# ---- The table.

@dataclass
class Row:
    """One line: what was measured, for each who answers, and what it is held against."""

    name: str
    unit: str
    values: dict = field(default_factory=dict)
    note: str = ""


@dataclass
class Bench:
    """All that the rows need."""

    args: argparse.Namespace
    work: Path
    end: int
    prometheus: Target
    promfront: Target
    nginx: Target
    files: Path
    extra: list
    children: list
    rows: list = field(default_factory=list)

    def wanted(self, name):
        return not self.args.only or re.search(self.args.only, name)

    def add(self, name, unit, values, note=""):
        self.rows.append(Row(name, unit, values, note))
        shown = ", ".join(f"{who} {value:.3f}" for who, value in values.items())
        say(f"{name}: {shown} {unit} {note}")

    def warm(self, path):
        """Both have answered the question; promfront's answer is the server's, and comes out of the cache."""
        want = hashlib.sha256(self.prometheus.get(path)[1]).digest()
        for target in [self.promfront, *self.extra]:
            target.get(path)
            response, body, *_ = target.get(path)
            if target is self.promfront:
                result = response.getheader("x-promfront-result") or ""
                if hashlib.sha256(body).digest() != want or not result.startswith("status=hit"):
                    sys.exit(f"bench: {path[:120]}: {result}, or another answer than the server's")

    def as_files(self, paths, packed):
        """What promfront answers, as files for nginx: their paths there."""
        listed = []
        for number, path in enumerate(paths):
            body = self.promfront.get(path, {"accept-encoding": "identity"})[1]
            name = f"{hashlib.sha256(path.encode()).hexdigest()[:16]}-{number}.json"
            (self.files / name).write_bytes(body)
            if packed:
                (self.files / (name + ".gz")).write_bytes(gzip.compress(body, 1))
            listed.append("/" + name)
        return listed


def row_warm(bench, name, paths, packed=False):
    """CPU of a warm answer, beside nginx that sends the same bytes from a file."""
    if not bench.wanted(name):
        return
    for path in paths:
        bench.warm(path)
    files = bench.as_files(paths, packed)
    headers = ["Accept-Encoding: gzip"] if packed else []
    plain = sum((bench.files / path[1:]).stat().st_size for path in files) / len(files)
    values = {}
    for target, asked in [(bench.promfront, paths), (bench.nginx, files), *((one, paths) for one in bench.extra)]:
        values[target.name] = load(target, asked, bench.args.seconds, bench.work, headers=headers)["cpu"] * 1000
    ratio = values["promfront"] / max(values["nginx"], 1e-9)
    note = f"{plain / 1000:.0f} kB an answer; {ratio:.1f} x nginx"
    if packed:
        ours = sum(len(bench.promfront.get(path, {"accept-encoding": "gzip"})[1]) for path in paths)
        theirs = sum((bench.files / (path[1:] + ".gz")).stat().st_size for path in files)
        note += f"; {ours / theirs:.2f} x the size of gzip -1"
    bench.add(name, "ms of CPU", values, note)


def row_refresh(bench, name, days, step):
    """The dashboard moves on by one step; only its tail is asked for."""
    if not bench.wanted(name):
        return
    rounds, base = 8, bench.end // step * step - 20 * step
    for path in dashboard(base, days, step):
        bench.warm(path)
    values = {}
    for target in [bench.promfront, *bench.extra]:
        for path in dashboard(base, days, step):
            target.get(path)
        asked = [path for i in range(1, rounds + 1) for path in dashboard(base + i * step, days, step)]
        cpu, _ = target.cpu_of(lambda: [target.get(path) for path in asked])
        values[target.name] = cpu / len(asked) * 1000
    tails = [path for i in range(1, rounds + 1) for path in dashboard(base + i * step, 0, step)]
    cpu, _ = bench.promfront.cpu_of(lambda: [bench.promfront.get(path + "&unknown=1") for path in tails])
    values["tail alone"] = cpu / len(tails) * 1000
    bench.add(name, "ms of CPU a panel", values)


def row_miss(bench, name, path, is_cut):
    """An answer that nobody has: CPU for what comes in, and the time beside the server alone."""
    if not bench.wanted(name):
        return
    size = len(bench.prometheus.get(path)[1])
    direct = min(bench.prometheus.get(path)[3] for _ in range(3))
    values, walls, firsts = {}, [], []
    for target in [bench.promfront, *bench.extra]:
        cpus = []
        for i in range(5):
            cpu, (_, _, to_first, to_last) = target.cpu_of(lambda i=i: target.get(f"{path}&miss={hashlib.sha256(name.encode()).hexdigest()[:8]}{i}"))
            cpus.append(cpu)
            if target is bench.promfront:
                walls.append(to_last)
                firsts.append(to_first)
        values[target.name] = min(cpus) / (size / 1e6) * 1000
    note = (f"{size / 1e6:.1f} MB; wall {min(walls) / direct:.2f} x direct ({direct * 1000:.0f} ms), "
            f"first byte after {min(firsts) / min(walls):.0%} of it")
    bench.add(name, "ms of CPU a MB", values, note + ("; cut" if is_cut else "; not cut"))


def row_big(bench, name, path, series):
    """One large answer: CPU, and what serving it does to memory."""
    if not bench.wanted(name):
        return
    bench.warm(path)
    files = bench.as_files([path], packed=False)
    size = (bench.files / files[0][1:]).stat().st_size
    values, notes = {}, []
    for target, asked in [(bench.promfront, path), (bench.nginx, files[0]), *((one, path) for one in bench.extra)]:
        forget_peak(target.pid)
        held = memory(target.pid, "VmRSS")
        cpu, _ = target.cpu_of(lambda t=target, a=asked: [t.get(a) for _ in range(5)])
        values[target.name] = cpu / 5 * 1000
        if target is bench.promfront:
            notes.append(f"resident {held / 1e6:.0f} MB, at most {memory(target.pid, 'VmHWM') / 1e6:.0f} while serving")
    ratio = values["promfront"] / max(values["nginx"], 1e-9)
    bench.add(name, "ms of CPU", values, f"{size / 1e6:.1f} MB, {series} series; {ratio:.1f} x nginx; {'; '.join(notes)}")


def row_memory(bench, name):
    """Bytes a sample in the first tier."""
    if not bench.wanted(name):
        return
    text = bench.promfront.get("/metrics")[1].decode()
    held = float(re.search(r"^promfront_cache_size_bytes (\S+)", text, re.M).group(1))
    samples = sum(sum(len(one["values"]) for one in json.loads(bench.promfront.get(path)[1])["data"]["result"])
                  for path in bench.held)
    bench.add(name, "bytes a sample", {"promfront": held / max(samples, 1)}, f"{samples} samples, {held / 1e6:.1f} MB")


def row_crowd(bench, name, paths, big):
    """Many connections, and a large answer beside them."""
    if not bench.wanted(name):
        return
    for path in [*paths, big]:
        bench.warm(path)
    seconds = bench.args.seconds
    few = load(bench.promfront, paths, seconds, bench.work, connections=4)
    many = load(bench.promfront, paths, seconds, bench.work, connections=500)
    stop = threading.Event()

    def keep_asking():
        while not stop.is_set():
            bench.promfront.get(big)

    beside = threading.Thread(target=keep_asking)
    beside.start()
    try:
        crowded = load(bench.promfront, paths, seconds, bench.work, connections=500)
    finally:
        stop.set()
        beside.join()
    rate = {"4": few, "500": many, "500 beside a large one": crowded}
    bench.add(name, "answers a second", {who: one["requests"] / one["us"] * 1e6 for who, one in rate.items()},
              "p99 " + ", ".join(f"{who}: {one['p99'] / 1000:.0f} ms" for who, one in rate.items()))


def run(bench):
    end = bench.end
    six_days, month = dashboard(end, 6, 300), dashboard(end, min(28, bench.args.days - 1), 3600)
    selector, series = selector_of(bench.prometheus, 1600, end)
    step = 300
    start = end // step * step - 6 * DAY
    big = question(selector, start, start + 1727 * step, step)
    fifth, _ = selector_of(bench.prometheus, 200, end)
    middle = question(fifth, start, start + 1727 * step, step)
    bench.held = six_days
    row_warm(bench, "12 panels, 6 d at 5 m, identity", six_days)
    row_memory(bench, "memory of the 12 panels")
    row_warm(bench, "12 panels, 6 d at 5 m, gzip", six_days, packed=True)
    row_warm(bench, "12 panels, 28 d at 1 h, identity", month)
    row_warm(bench, "200 series, 6 d at 5 m, identity", [middle])
    row_warm(bench, "200 series, 6 d at 5 m, gzip", [middle], packed=True)
    row_refresh(bench, "refresh, 6 d at 5 m", 6, 300)
    row_refresh(bench, "refresh, 1 d at 5 m", 1, 300)
    row_miss(bench, "miss, six days", middle, is_cut=True)
    row_miss(bench, "miss, one day", question(fifth, start, start + DAY - 600 - start % DAY, step), is_cut=False)
    row_big(bench, "1,600 series, 6 d at 5 m", big, series)
    row_crowd(bench, "crowd", six_days, big)


def print_table(bench):
    columns = ["promfront", "nginx", *(one.name for one in bench.extra)]
    print(f"{'':34} {'unit':20} " + " ".join(f"{name:>10}" for name in columns))
    for row in bench.rows:
        cells = [f"{row.values[name]:10.3f}" if name in row.values else " " * 10 for name in columns]
        rest = ", ".join(f"{name} {value:.3f}" for name, value in row.values.items() if name not in columns)
        print(f"{row.name:34} {row.unit:20} {' '.join(cells)}  {row.note}" + (f" [{rest}]" if rest else ""))


# ---- Beginning and end.

def data_end(folder):
    metas = [json.loads(path.read_text()) for path in folder.glob("*/meta.json")]
    return max((meta["maxTime"] // 1000 for meta in metas), default=0)


def prepare_data(args):
    if not data_end(args.data):
        say(f"making {args.days} days of data in {args.data} (once)")
        end = int(time.time()) // 60 * 60
        subprocess.run([sys.executable, str(HERE.parent / "demo" / "backfill.py"), "--profile", "demo", "--end", str(end),
                        "--days", str(args.days), "--out", str(args.data)], check=True)
    # What is asked for lies wholly in the past, also for the first run.
    return min(data_end(args.data), int(time.time())) - 3600


def start(args, work, children):
    end, config = prepare_data(args), work / "prometheus.yml"
    config.write_text("global: {}\n")
    ports = [args.port or free_port(), free_port(), free_port()]
    # The blocks are linked, so that a server that writes its head writes beside them.
    data = work / "data"
    shutil.copytree(args.data, data, copy_function=os.link)
    children.append(Child("prometheus", [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}", f"--web.listen-address=127.0.0.1:{ports[0]}",
        "--storage.tsdb.retention.time=100y", "--log.level=warn", "--query.max-samples=500000000",
        "--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h"], work / "prometheus.log"))
    children.append(Child("promfront", [
        str(args.promfront.resolve()), f"--downstream.url=http://127.0.0.1:{ports[0]}",
        f"--web.listen-address=127.0.0.1:{ports[1]}", "--web.max-connections=4096"], work / "promfront.log"))
    files = work / "files"
    files.mkdir()
    os.chmod(work, 0o755)
    nginx = work / "nginx.conf"
    nginx.write_text(f"""
        daemon off; worker_processes 1; pid {work}/nginx.pid; error_log {work}/nginx-error.log;
        events {{ worker_connections 2048; }}
        http {{ access_log off; sendfile on; gzip_static on; default_type application/json; keepalive_requests 1000000;
                client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3;
                uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;
                server {{ listen 127.0.0.1:{ports[2]}; root {files}; location = /ready {{ return 200; }} }} }}
    """)
    children.append(Child("nginx", ["nginx", "-e", f"{work}/nginx-error.log", "-c", str(nginx)], work / "nginx.log"))
    for child, url in zip(children, [f"http://127.0.0.1:{ports[0]}/-/ready", f"http://127.0.0.1:{ports[1]}/-/ready",
                                     f"http://127.0.0.1:{ports[2]}/ready"]):
        child.wait_ready(url, 120)
    extra = []
    for text in args.extra:
        name, rest = text.split("=", 1)
        url, pid = rest.rsplit("=", 1)
        host, _, path = url.removeprefix("http://").partition("/")
        host, _, port = host.partition(":")
        extra.append(Target(name, int(port or 80), int(pid), host, ("/" + path).rstrip("/")))
    targets = [Target(child.name, port, child.process.pid) for child, port in zip(children, ports)]
    return Bench(args, work, end, *targets[:1], targets[1], targets[2], files, extra, children)


def main():
    args = parse_args()
    os.environ["PATH"] = PATH
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ensure(TOOLS, say)
    args.data.parent.mkdir(parents=True, exist_ok=True)
    work, children = Path(tempfile.mkdtemp(prefix="promfront-bench-", dir=args.data.parent)), []
    try:
        begun = time.monotonic()
        bench = start(args, work, children)
        run(bench)
        print_table(bench)
        say(f"{time.monotonic() - begun:.0f} s")
        return 0
    finally:
        for child in reversed(children):
            child.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
