#!/usr/bin/env python3
"""`make bench`: what an answer costs promfront, beside nginx that sends the same bytes from a file, and beside Prometheus.

Need: figures that mean something on any machine, and of each goal whether it is met. Rule: everything is measured side by side in
one run, as CPU time of the process that answers over answers that were really sent; the ratio is what counts.
"""

import sys

sys.dont_write_bytecode = True

import argparse
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "demo"))

import rows
import table
from bench import Bench, say
from children import PATH, ensure, free_port
from servers import TOOLS, Servers, Strangers, Target

DATA_VERSION = "2"  # Data of another version lies in another folder, and stays what it is.
DAYS = 30


def parse_args():
    parser = argparse.ArgumentParser(description="Measure promfront beside nginx and Prometheus, and hold it against its goals.")
    parser.add_argument("--promfront", type=Path, default=Path("target/release/promfront"), metavar="PATH")
    parser.add_argument("--data", type=Path, default=Path("target/bench-data"), metavar="DIR", help="kept between runs")
    parser.add_argument("--seconds", type=float, default=3, metavar="S", help="how long each figure is measured, in all its rounds")
    parser.add_argument("--only", metavar="REGEX", help="rows to run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures too")
    parser.add_argument("--extra", action="append", default=[], metavar="NAME=URL=PID",
                        help="another proxy before the same Prometheus (see --port), as a column of its own")
    parser.add_argument("--port", type=int, default=0, help="where Prometheus listens (default: any free port)")
    args = parser.parse_args()
    args.data = args.data.resolve()
    for extra in args.extra:
        if len(extra.split("=")) < 3 or not extra.rsplit("=", 1)[1].isdigit():
            parser.error(f"--extra {extra}: write NAME=URL=PID, for example thanos=http://127.0.0.1:10902=4711")
    if not os.access(args.promfront, os.X_OK):
        parser.error(f"{args.promfront} is not a program: build it first (cargo build --release), or run `make bench`")
    return args


def data_end(folder):
    metas = [json.loads(path.read_text()) for path in folder.glob("*/meta.json")]
    return max((meta["maxTime"] // 1000 for meta in metas), default=0)


def prepare_data(folder):
    """The blocks, and the end of what is asked for, which lies wholly in the past also for the first run."""
    blocks = folder / DATA_VERSION
    if not data_end(blocks):
        say(f"making {DAYS} days of data in {blocks} (once, about a minute)")
        subprocess.run([sys.executable, str(HERE.parent / "demo" / "backfill.py"), "--profile", "bench", "--days", str(DAYS),
                        "--end", str(int(time.time()) // 60 * 60), "--out", str(blocks)], check=True)
    return blocks, min(data_end(blocks), int(time.time())) - 3600


def extra_of(text):
    name, rest = text.split("=", 1)
    url, pid = rest.rsplit("=", 1)
    host, _, path = url.removeprefix("http://").partition("/")
    host, _, port = host.partition(":")
    return Target(name, int(port or 80), int(pid), host, ("/" + path).rstrip("/"))


def main():
    args = parse_args()
    os.environ["PATH"] = PATH
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ensure(TOOLS, say)
    args.data.mkdir(parents=True, exist_ok=True)
    blocks, end = prepare_data(args.data)
    work = Path(tempfile.mkdtemp(prefix="promfront-bench-", dir=args.data.parent))
    servers = None
    try:
        begun = time.monotonic()
        servers = Servers(work)
        prometheus = servers.prometheus(blocks, args.port or free_port())
        extra = [extra_of(text) for text in args.extra]
        promfront, nginx = servers.promfront(args.promfront, prometheus), servers.nginx(prometheus)
        strangers = Strangers(lambda: servers.pids() + [one.pid for one in extra])
        bench = Bench(args, work, end, servers, prometheus, promfront, nginx, extra, strangers)
        rows.run(bench)
        seconds = time.monotonic() - begun
        print("\n".join(table.lines(bench.rows, ["promfront", "nginx", "prometheus", *(one.name for one in bench.extra)])))
        goals = [goal for row in bench.rows for goal in row.goals]
        print(f"\n{sum(goal.is_met() for goal in goals)} of {len(goals)} goals are met. {seconds:.0f} s on {os.cpu_count()} cores.")
        if args.json:
            args.json.write_text(table.as_json(bench.rows, seconds=round(seconds), cores=os.cpu_count()) + "\n")
        return 0
    finally:
        if servers:
            servers.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
