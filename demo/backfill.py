#!/usr/bin/env python3
"""Makes the data of the demo, of the benchmark and of the test suite: OpenMetrics text, then Prometheus blocks.

Need: weeks of history, the same on every run, before anybody loses patience.
Rule: the time is cut where blocks are cut; each slice gets its own text file and its own promtool, so promtool reads
each sample twice (once for the time range, once to write) and all cores work. `--max-block-duration` is a hidden flag
of promtool: without it the whole input is read again for each block of two hours.
The output directory appears complete or not at all.
"""

import sys

sys.dont_write_bytecode = True

import argparse
import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import profile_bench
import profile_demo
import profile_test
from series import Timeline

PROFILES = {
    "test": {"module": profile_test, "end": 1707609600, "days": 10, "interval": 60, "bytes_per_instant": 20_000},
    "demo": {"module": profile_demo, "end": None, "days": 30, "interval": 60, "bytes_per_instant": 120_000},
    "bench": {"module": profile_bench, "end": None, "days": 30, "interval": 60, "bytes_per_instant": 160_000},
}
BLOCK_HOURS = 162  # 2 h * 3^4: the largest of Prometheus's block ranges that still gives each core a slice of a month
MAX_BLOCK_DURATION = "768h"


def parse_args(argv):
    parser = argparse.ArgumentParser(description="Write deterministic Prometheus blocks for the demo, the benchmark or the tests.")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="demo")
    parser.add_argument("--end", type=int, metavar="UNIX_SECONDS", help="last instant (test: 2024-02-11; others: now)")
    parser.add_argument("--days", type=int, metavar="N", help="days of history before --end")
    parser.add_argument("--interval", type=int, metavar="SECONDS", help="seconds between samples")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory for the blocks (new or empty)")
    parser.add_argument("--promtool", default="promtool", metavar="PATH")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes at once")
    args = parser.parse_args(argv)
    defaults = PROFILES[args.profile]
    args.days = defaults["days"] if args.days is None else args.days
    args.interval = defaults["interval"] if args.interval is None else args.interval
    if args.days < 1 or args.interval < 1 or args.interval > 3600 or args.jobs < 1:
        parser.error("--days and --jobs must be at least 1, --interval between 1 and 3600")
    if args.end is None:
        args.end = defaults["end"] or int(time.time())
    args.end -= args.end % args.interval
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        parser.error(f"{args.out} exists and is not an empty directory")
    if shutil.which(args.promtool) is None:
        parser.error(f"{args.promtool} not found: it comes with Prometheus (Debian: apt-get install prometheus)")
    return args


def progress(text):
    """One line that rewrites itself, and only for eyes."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


GROUPS, FILES = [], []  # filled before the workers are forked, so that only an index travels to them
TURN = None


def start_worker(turn):
    """Ctrl-C belongs to the parent, which lets each worker end its group."""
    global TURN
    TURN = turn
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def render(index):
    """Appends one group of series to the slice files when its turn comes; tells how many series and samples it was.

    Groups are made in any order but written in theirs: families stay together and the text is the same on every run.
    """
    head, series, samples, slices = "", 0, 0, [[] for _ in FILES]
    try:
        kind, family, tracks = GROUPS[index]
        if index == 0 or GROUPS[index - 1][1] != family:
            head = f"# TYPE {family} {kind}\n"
        for track in tracks():
            for pile, part in zip(slices, track.slices()):
                pile.append(part)
            series, samples = series + 1, samples + len(track.values)
        texts = [(head + "".join(pile)).encode() for pile in slices]
    finally:
        with TURN:
            TURN.wait_for(lambda: TURN.next.value == index)
    try:
        for file, text in zip(FILES, texts):
            file.write(text)
    finally:
        with TURN:
            TURN.next.value += 1
            TURN.notify_all()
    return series, samples


def write_text(args, timeline, folder):
    """Streams every group into one OpenMetrics file for each time slice; returns the files and the totals."""
    GROUPS[:] = PROFILES[args.profile]["module"].groups(timeline)
    paths = [folder / f"{k:02d}.om" for k in range(len(timeline.edges) - 1)]
    FILES[:] = [path.open("ab", buffering=0) for path in paths]
    fork = multiprocessing.get_context("fork")
    turn = fork.Condition()
    turn.next = fork.Value("q", 0, lock=False)
    total_series = total_samples = 0
    pool = ProcessPoolExecutor(args.jobs, fork, start_worker, (turn,))
    try:
        for index, (series, samples) in enumerate(pool.map(render, range(len(GROUPS)))):
            total_series, total_samples = total_series + series, total_samples + samples
            progress(f"backfill: text {100 * (index + 1) // len(GROUPS):3d} %  {total_series} series")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    for file in FILES:
        file.write(b"# EOF\n")
        file.close()
    return paths, total_series, total_samples


def write_blocks(args, paths, folder):
    """One promtool for each slice, as many at once as there are cores; their blocks are gathered in one directory."""
    running, done = [], []

    def build(path):
        own = folder / path.stem
        command = [args.promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet",
                   f"--max-block-duration={MAX_BLOCK_DURATION}", str(path), str(own)]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        running.append(child)
        output, _ = child.communicate()
        if child.returncode != 0:
            sys.exit(f"backfill: promtool failed: {output.decode(errors='replace').strip()[-2000:]}")
        path.unlink()
        return own

    threads = ThreadPoolExecutor(min(args.jobs, len(paths)))
    try:
        for own in threads.map(build, paths):
            done.append(own)
            progress(f"backfill: blocks {len(done)}/{len(paths)}")
    except BaseException:
        threads.shutdown(wait=False, cancel_futures=True)
        for child in running:
            child.kill()
        raise
    finally:
        threads.shutdown()
    return gather(done, folder / "blocks")


def gather(folders, target):
    """Moves the blocks of all folders into one."""
    target.mkdir()
    for block in (b for folder in folders for b in folder.iterdir() if (b / "meta.json").exists()):
        block.rename(target / block.name)
    return target


def check_space(args, timeline):
    """Refuses before the disk is full rather than after."""
    need = timeline.size * PROFILES[args.profile]["bytes_per_instant"]
    free = shutil.disk_usage(args.out.parent).free
    if need > free:
        sys.exit(f"backfill: needs about {need / 1e9:.1f} GB in {args.out.parent} for a few minutes, "
                 f"{free / 1e9:.1f} GB are free: choose another place, fewer --days or a longer --interval")


def main(argv=None):
    args = parse_args(argv)
    begun = time.monotonic()
    hours = 10 * 365 * 24 if args.profile == "test" else BLOCK_HOURS
    timeline = Timeline(args.end, args.days, args.interval, hours * 3600)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    check_space(args, timeline)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = Path(tempfile.mkdtemp(prefix=args.out.name + ".partial-", dir=args.out.parent))
    try:
        paths, series, samples = write_text(args, timeline, work)
        size, written = sum(p.stat().st_size for p in paths), time.monotonic()
        blocks = write_blocks(args, paths, work)
        blocks.chmod(0o755)
        blocks.rename(args.out)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        shutil.rmtree(work, ignore_errors=True)
    progress("")
    print(f"backfill: {series} series, {samples / 1e6:.1f} M samples, {args.days} days every {args.interval} s: "
          f"text {size / 1e9:.2f} GB in {written - begun:.1f} s, blocks in {time.monotonic() - written:.1f} s",
          file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        progress("")
        sys.exit(130)
