#!/usr/bin/env python3
"""The demo: a month of data, a Prometheus, a promfront in front of it, and a dashboard that asks both.

Need: to see on one's own machine, in minutes, how much faster a dashboard gets and that no digit changes.
Rule: the direct server is treated at least as well as promfront (it is asked first and twice, its better time counts);
every answer is compared; whatever was started is stopped, and temporary data goes.
"""

import sys

sys.dont_write_bytecode = True

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

import ask
import panels
from children import FOR_DEMO, Child, ensure, free_port
from series import DAY

HERE = Path(__file__).resolve().parent


def parse_args():
    parser = argparse.ArgumentParser(description="Run a dashboard directly and through promfront, and compare.")
    parser.add_argument("--promfront", type=Path, default=Path("target/release/promfront"), metavar="PATH")
    parser.add_argument("--once", action="store_true", help="stop at the end; exit 0 only if every answer was the same")
    parser.add_argument("--days", type=int, default=30, metavar="N", help="days of data; longer ranges are left out")
    parser.add_argument("--interval", type=int, default=60, metavar="SECONDS", help="seconds between samples")
    parser.add_argument("--keep-data", type=Path, metavar="DIR", help="keep the data here, and use what is there")
    parser.add_argument("--port-base", type=int, default=0, metavar="PORT",
                        help="Prometheus gets PORT, promfront PORT + 1 (default: any free ports)")
    args = parser.parse_args()
    if not 1 <= args.days <= 400 or not 1 <= args.interval <= 300:
        parser.error("--days must be between 1 and 400, --interval between 1 and 300")
    if args.port_base and not 1 <= args.port_base <= 65534:
        parser.error("--port-base must be between 1 and 65534")
    if not (args.promfront.is_file() and os.access(args.promfront, os.X_OK)):
        parser.error(f"{args.promfront} is not a program: build it first (cargo build --release), or run `make demo`")
    return args


def say(text):
    print(f"demo: {text}", file=sys.stderr, flush=True)


def paint(text, code):
    """Colour for terminals that want it."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\033[{code}m{text}\033[0m" if wanted else text


def bar(done, total, text):
    """One line that rewrites itself, and only for eyes."""
    if sys.stderr.isatty():
        filled = 30 * done // total
        sys.stderr.write(f"\r\033[K[{'#' * filled}{'.' * (30 - filled)}] {done}/{total}  {text}" if done < total else "\r\033[K")
        sys.stderr.flush()


def prepare_data(args, folder):
    """Fills `folder` with blocks that end now, or uses those that are there; returns the last instant of the data."""
    def last_instant():
        metas = [json.loads(path.read_text()) for path in folder.glob("*/meta.json")]
        return max((meta["maxTime"] // 1000 for meta in metas), default=0)

    if last_instant():
        say(f"using the data in {folder}; it ends at {time.strftime('%Y-%m-%d %H:%M', time.gmtime(last_instant()))} UTC")
        return last_instant()
    say(f"backfilling {args.days} days of samples every {args.interval} s (a few minutes at most)")
    end = int(time.time()) // args.interval * args.interval
    command = [sys.executable, str(HERE / "backfill.py"), "--profile", "demo", "--end", str(end), "--days",
               str(args.days), "--interval", str(args.interval), "--out", str(folder)]
    child = subprocess.Popen(command)
    try:
        if child.wait() != 0:
            sys.exit("demo: the backfill failed")
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()
    return end


def start_servers(args, work, data, children):
    """Prometheus on the data and promfront before it; returns their ports when both are ready."""
    ports = (args.port_base, args.port_base + 1) if args.port_base else (free_port(), free_port())
    config = work / "prometheus.yml"
    config.write_text("global: {}\n")
    children.append(Child("prometheus", [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}", f"--web.listen-address=127.0.0.1:{ports[0]}",
        "--storage.tsdb.retention.time=100y", "--log.level=warn",
        # No compaction: it would take a core while the panels are timed.
        "--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h"], work / "prometheus.log"))
    children[-1].wait_ready(f"http://127.0.0.1:{ports[0]}/-/ready", 120)
    children.append(Child("promfront", [
        str(args.promfront.resolve()), f"--downstream.url=http://127.0.0.1:{ports[0]}",
        f"--web.listen-address=127.0.0.1:{ports[1]}"], work / "promfront.log"))
    children[-1].wait_ready(f"http://127.0.0.1:{ports[1]}/-/ready", 30)
    return ports


def measure(direct, front, form):
    """One row: the better of two direct times, the cold time, the better of two warm ones, and the verdict."""
    times = {}
    direct_runs = [direct.query_range(form) for _ in range(2)]
    cold, *warm = [front.query_range(form) for _ in range(3)]
    times["direct"], times["cold"] = min(t for t, _ in direct_runs), cold[0]
    times["warm"] = min(t for t, _ in warm)
    reference, answers = direct_runs[0][1], [answer for _, answer in (cold, *warm)]
    same = ask.verdict(reference, answers, lambda: direct.query_range(form)[1])
    if reference.error():
        same = ask.NO
    why = "" if same == ask.YES else reference.error() or ask.explain(reference, answers)
    return {**times, "same": same, "why": why, "points": reference.points(), "cache": answers[-1].cache}


def run_dashboard(args, ports, end):
    """All panels at all ranges; a row for each."""
    direct, front = (ask.Server(port) for port in ports)
    jobs = [(name, label, query, seconds) for label, seconds in panels.RANGES if seconds <= args.days * DAY
            for name, query in panels.PANELS]
    rows = []
    for done, (name, label, query, seconds) in enumerate(jobs):
        bar(done, len(jobs), f"{label}  {name}")
        form = panels.request(query, seconds, end, args.interval)
        rows.append({"panel": name, "range": label, **measure(direct, front, form)})
    bar(1, 1, "")
    return rows


def print_table(rows):
    head = (f"{'panel':22} {'range':>5} {'points':>7} {'direct ms':>10} {'cold ms':>9} {'warm ms':>9} "
            f"{'times faster':>13}  same answer")
    print(paint(head, "1"))
    last = rows[0]["range"]
    for row in rows:
        if row["range"] != last:
            print()
        last = row["range"]
        faster = f"{row['direct'] / row['warm']:.1f}"
        same = paint(row["same"], {ask.YES: "32", ask.OWN: "33", ask.NO: "1;31"}[row["same"]])
        print(f"{row['panel']:22} {row['range']:>5} {row['points']:>7} {row['direct']:>10.1f} {row['cold']:>9.1f} "
              f"{row['warm']:>9.1f} {faster:>13}  {same}")
        if row["why"]:
            print(f"    {row['why']}")
    print("\ndirect: the better of two, before promfront saw the query; cold: its first time through promfront;"
          "\nwarm: the better of two more; times faster: direct / warm.")
    if any(row["same"] == ask.OWN for row in rows):
        print("* the direct server, asked the same again, answered itself differently at the points that differ.")


def print_summary(rows, port):
    medians = []
    for label in dict.fromkeys(row["range"] for row in rows):
        ratios = [row["direct"] / row["warm"] for row in rows if row["range"] == label]
        medians.append(f"{label} {statistics.median(ratios):.1f}×")
    total = {kind: sum(row[kind] for row in rows) / 1000 for kind in ("direct", "cold", "warm")}
    same, answers = sum(row["same"] != ask.NO for row in rows), len(rows)
    print(f"\n{paint('median times faster', '1')}: {', '.join(medians)}")
    print(f"{paint('whole dashboard', '1')}: direct {total['direct']:.2f} s, cold {total['cold']:.2f} s, warm {total['warm']:.2f} s")
    print(f"{paint('same answer', '1')}: {same} of {answers}")
    states = Counter(row["cache"] for row in rows)
    print(f"{paint('warm answers', '1')}: {', '.join(f'{n} {state}' for state, n in states.most_common())}")
    print_cache_figures(port)


def print_cache_figures(port):
    """What promfront says of its cache: its counters and gauges, without histograms."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError as error:
        print(f"promfront /metrics: {error}")
        return
    wanted = ("promfront_cache", "promfront_quer", "promfront_split", "promfront_downstream_requests", "promfront_coalesc")
    unwanted = ("_bucket", "_sum", "_count", "_created")
    shown = [line for line in lines if line.startswith(wanted) and not line.split("{")[0].split(" ")[0].endswith(unwanted)
             and not line.endswith(" 0")]
    for line in shown[:24]:
        print("  " + line)


def show_and_wait(ports, children):
    """Leaves the pair running until Ctrl-C, or until one of the two is gone."""
    print(f"\n{paint('Both are running.', '1')} Ctrl-C stops them.\n"
          f"  Grafana datasource URL  http://127.0.0.1:{ports[1]}\n"
          f"  promfront metrics       http://127.0.0.1:{ports[1]}/metrics\n"
          f"  Prometheus, direct      http://127.0.0.1:{ports[0]}", flush=True)
    while all(child.process.poll() is None for child in children):
        time.sleep(0.5)
    gone = next(child for child in children if child.process.poll() is not None)
    sys.exit(f"demo: {gone.name} ended with code {gone.process.returncode}:\n{gone.last_words()}")


def run(args, work, children):
    begun = time.monotonic()
    data = args.keep_data or work / "data"
    end = prepare_data(args, data)
    ports = start_servers(args, work, data, children)
    say(f"Prometheus and promfront are ready after {time.monotonic() - begun:.0f} s; running the panels")
    rows = run_dashboard(args, ports, end)
    print_table(rows)
    print_summary(rows, ports[1])
    print(f"{paint('time', '1')}: {time.monotonic() - begun:.0f} s", flush=True)
    failed = not all(row["same"] != ask.NO for row in rows) or not any(row["points"] for row in rows)
    if not args.once:
        try:
            show_and_wait(ports, children)
        except KeyboardInterrupt:
            print(file=sys.stderr)
    return 1 if failed else 0


def main():
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    ensure(FOR_DEMO, say)
    # Not /tmp if it can be helped: it may be memory, and the text needs some gigabytes for a moment.
    place = os.environ.get("TMPDIR") or ("/var/tmp" if os.access("/var/tmp", os.W_OK) else None)
    work, children = Path(tempfile.mkdtemp(prefix="promfront-demo-", dir=place)), []
    try:
        return run(args, work, children)
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for child in reversed(children):
            child.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
