"""The rows: what is measured, and the goals.

Need: each goal of the project as a figure that a run on any machine can hold it against.
Rule: nothing is measured that was not compared first. promfront's bytes are the server's, packed or not; that an answer came out
of the cache is seen in its headers, and for a whole load in that the server was asked nothing.
"""

import argparse
import gzip
import hashlib
import re
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import load
import questions
from questions import DAY, fleet, racks
from servers import Servers, Target, forget_peak, memory
from table import Goal, Row

MB = 1e6


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


@dataclass
class Bench:
    """All that the rows need."""

    args: argparse.Namespace
    work: Path
    end: int
    servers: Servers
    prometheus: Target
    promfront: Target
    nginx: Target
    extra: list
    rows: list = field(default_factory=list)

    def wanted(self, name):
        return not self.args.only or re.search(self.args.only, name)

    def add(self, name, unit, values, goals=(), note=""):
        self.rows.append(Row(name, unit, values, list(goals), note))
        shown = ", ".join(f"{who} {value:.3f}" for who, value in values.items())
        judged = "; ".join(f"{goal.wanted()}: {goal.verdict()}" for goal in goals)
        say(f"{name}: {shown} {unit}; {judged or 'no goal'}" + (f"; {note}" if note else ""))

    def proxies(self):
        return [self.promfront, *self.extra]


# ---- What comes before measuring.

def check(bench, path, promfront=None, status="hit"):
    """promfront's answer is the server's and came as `status` says. Its body, its result, and what it cost the server."""
    promfront = promfront or bench.promfront
    cpu, (_, want) = bench.prometheus.cpu_of(lambda: bench.prometheus.get(path))
    response, body = promfront.get(path)
    result = response.getheader("x-promfront-result") or ""
    if body != want or not result.startswith(f"status={status};"):
        sys.exit(f"bench: {path[:160]}: {result}, wanted {status}" + ("" if body == want else ", and another answer than the server's"))
    return body, result, cpu


def as_file(bench, path, body):
    """The body as a file for nginx, plain and as `gzip -1` packs it: its path there, and the packed size."""
    name = hashlib.sha256(path.encode()).hexdigest()[:24] + ".json"
    packed = gzip.compress(body, 1)
    (bench.servers.files / name).write_bytes(body)
    (bench.servers.files / (name + ".gz")).write_bytes(packed)
    return "/" + name, len(packed)


class AllHits:
    """promfront asks the server nothing meanwhile."""

    def __init__(self, promfront, name):
        self.promfront, self.name = promfront, name

    def __enter__(self):
        self.before = self.promfront.metric("downstream_requests_total")

    def __exit__(self, kind, *_):
        asked = self.promfront.metric("downstream_requests_total") - self.before
        if kind is None and asked:
            sys.exit(f"bench: {self.name}: the server was asked {asked:.0f} times for what should be held")


# ---- Warm answers.

def warm(bench, case):
    """CPU of a warm answer, plain and packed, beside nginx that sends the same bytes from files; one window, and many."""
    kinds = [kind for kind in ("same", "moving") if bench.wanted(f"warm, {case.name}, {kind}")]
    if not kinds:
        return
    for target in bench.proxies():
        for path in case.held():
            target.fetch(path)
    for kind in kinds:
        paths = case.same() if kind == "same" else case.moving()
        looked_at = paths[:len(case.same()) * (1 if kind == "same" or case.name == "big" else 2)]
        bodies, direct, files, packed, ours = [], [], [], 0, 0
        for path in looked_at:
            body, _, cpu = check(bench, path)
            direct.append(cpu)
            bodies.append(len(body))
            file, size = as_file(bench, path, body)
            files.append(file)
            packed += size
            squeezed = bench.promfront.get(path, "gzip")[1]
            ours += len(squeezed)
            if gzip.decompress(squeezed) != body:
                sys.exit(f"bench: {path[:160]}: unpacks to another answer")
        with AllHits(bench.promfront, f"warm, {case.name}, {kind}"):
            cpu = ask_in_turn(bench, paths, files, sum(bodies) / len(bodies))
        told = f"{sum(bodies) / len(bodies) / 1000:.0f} kB"
        plain = {name: value for (name, encoding), value in cpu.items() if encoding == "identity"}
        small = {name: value for (name, encoding), value in cpu.items() if encoding == "gzip"}
        bench.add(f"warm, {case.name}, {kind}", "ms of CPU", {**plain, "prometheus": sum(direct) / len(direct) * 1000},
                  [Goal(plain["promfront"] / plain["nginx"], 2, "x nginx")], told)
        bench.add(f"warm, {case.name}, {kind}, gzip", "ms of CPU", small,
                  [Goal(small["promfront"] / plain["promfront"], 1, "x identity"), Goal(ours / packed, 1, "x the size of gzip -1")],
                  f"{ours / len(files) / 1000:.0f} kB")


def ask_in_turn(bench, paths, files, size):
    """Milliseconds of CPU an answer, by who answers and how it is packed."""
    seconds = bench.args.seconds / load.ROUNDS

    def job(target, asked, encoding):
        def run(number):
            begin = number * len(asked) // load.ROUNDS
            if size > load.LARGE:
                return load.one_by_one(target, asked, seconds, encoding, begin) * 1000
            return load.wrk(target, asked, seconds, bench.work, encoding=encoding, begin=begin)["cpu"] * 1000
        return run

    who = [(bench.promfront, paths), (bench.nginx, files), *((one, paths) for one in bench.extra)]
    return load.in_turn({(target.name, encoding): job(target, asked, encoding)
                         for encoding in ("identity", "gzip") for target, asked in who})


# ---- Memory.

def samples_in(body):
    """Points end as nothing else in an answer does."""
    return body.count(b'"]')


def bytes_a_sample(bench, name, paths):
    """What the first tier weighs that holds these answers and nothing else."""
    if not bench.wanted(name):
        return
    with bench.servers.fresh_promfront(bench.args.promfront, bench.prometheus) as promfront:
        for path in paths:
            promfront.fetch(path)
        samples = sum(samples_in(check(bench, path, promfront)[0]) for path in paths)
        held = promfront.metric("cache_size_bytes")
    bench.add(name, "bytes a sample", {"promfront": held / samples}, [Goal(held / samples, 12, "bytes a sample")],
              f"{samples} samples, {held / MB:.1f} MB")


def resident(bench, name, path):
    """What serving one large answer does to a process that holds it and nothing else."""
    if not bench.wanted(name):
        return
    with bench.servers.fresh_promfront(bench.args.promfront, bench.prometheus) as promfront:
        empty = memory(promfront.pid, "VmRSS")
        promfront.fetch(path)
        filled = memory(promfront.pid, "VmHWM")
        size = 0
        for encoding in ("identity", "gzip"):
            before = memory(promfront.pid, "VmRSS")
            forget_peak(promfront.pid)
            for _ in range(5):
                promfront.fetch(path, encoding)
            peak, after = memory(promfront.pid, "VmHWM"), memory(promfront.pid, "VmRSS")
            size = size or len(check(bench, path, promfront)[0])
            rise = (peak - before) / size
            note = (f"an answer of {size / MB:.0f} MB; {empty / MB:.0f} MB empty, {filled / MB:.0f} at most while it was filled, "
                    f"{before / MB:.0f} before, {after / MB:.0f} after 5 answers")
            goals = [Goal(peak / MB, 200, "MB in all"), Goal(rise, 1.5, "x the answer of rise")]
            bench.add(f"{name}, {encoding}", "MB at most", {"promfront": peak / MB}, goals, note)


# ---- Refreshes and misses.

def refresh(bench, name, seconds, step, rounds=16):
    """The dashboard moves on by one step; only its tail is asked for. What the tail alone costs is measured in between."""
    if not bench.wanted(name):
        return
    # A mark of its own: nothing that other rows asked for is held.
    asks, alone = (questions.dashboard(step, f" # {name}, {what}") for what in ("held", "tail"))
    end = (bench.end // step - rounds) * step
    values = {}
    for target in bench.proxies():
        for path in asks(end - seconds, end):
            target.fetch(path)
        costs, tails = [], []
        for last in range(end + step, end + (rounds + 1) * step, step):
            paths, short = asks(last - seconds, last), alone(last, last)
            costs.append(target.cpu_of(lambda: [target.fetch(path) for path in paths])[0] / len(paths) * 1000)
            tails.append(target.cpu_of(lambda: [target.fetch(path) for path in short])[0] / len(short) * 1000)
        values[target.name] = median(costs)
        values[f"tail alone ({target.name})"] = median(tails)
    last = end + (rounds + 1) * step
    for path in asks(last - seconds, last):
        check(bench, path, status="phit")
    beyond = values["promfront"] - values["tail alone (promfront)"]
    bench.add(name, "ms of CPU a panel", values, [Goal(beyond, 1, "ms beyond the tail")])


def miss(bench, name, matchers, start, end, step, most):
    """An answer that nobody has: CPU for what comes in, and the time beside the server alone, in pairs. `most`: what the time may
    be of the server's, less than 1 for what is cut."""
    if not bench.wanted(name):
        return
    count = iter(range(10**6))

    def path():
        """The same answer to another question each time: no series has the label."""
        return fleet(f'{matchers}, bench!="{name} {next(count)}"', step)(start, end)[0]

    body, result, _ = check(bench, path(), status="miss")
    bench.prometheus.fetch(path())
    directs, values, goals, notes = [], {}, [], []
    for target in bench.proxies():
        walls, firsts, cpus, until, turn = [], [], [], time.monotonic() + bench.args.seconds, 0
        while turn < 11 or (turn < 101 and time.monotonic() < until):
            pair = [lambda: directs.append(bench.prometheus.fetch(path())[1]),
                    lambda: through(target, path(), cpus, firsts, walls)]
            for ask in pair if turn % 2 else reversed(pair):
                ask()
            turn += 1
        values[target.name] = median(cpus) / (len(body) / MB) * 1000
        wall, direct = median(walls), median(directs)
        notes.append(f"{target.name}: {wall / direct:.2f} x direct, first byte after {median(firsts) / wall:.0%}")
        if target is bench.promfront:
            goals = [Goal(values["promfront"], 3.9, "ms a MB"), Goal(wall / direct, most, "x the time of the server alone")]
    parts = re.search(r"parts=(\d+)", result)
    bench.add(name, "ms of CPU a MB", values, goals,
              f"{len(body) / MB:.1f} MB, {parts.group(1) if parts else 1} parts; direct {median(directs) * 1000:.1f} ms; {'; '.join(notes)}")


def through(target, path, cpus, firsts, walls):
    cpu, (first, wall) = target.cpu_of(lambda: target.fetch(path))
    cpus.append(cpu)
    firsts.append(first)
    walls.append(wall)


# ---- Many at once.

def crowd(bench, name, paths, big):
    """Many connections, and a large answer beside them."""
    if not bench.wanted(name):
        return
    for path in [*paths, big]:
        bench.promfront.fetch(path)
        check(bench, path)
    stop = threading.Event()

    def keep_asking():
        while not stop.is_set():
            bench.promfront.fetch(big)

    def ask(connections):
        return load.wrk(bench.promfront, paths, bench.args.seconds, bench.work, connections)

    rounds = []
    for _ in range(load.ROUNDS):
        few, many = ask(4), ask(500)
        beside = threading.Thread(target=keep_asking)
        stop.clear()
        beside.start()
        try:
            rounds.append((few, many, ask(500)))
        finally:
            stop.set()
            beside.join()
    few, many, crowded = (dict(zip(("rate", "p99"), (median(one["requests"] / one["us"] * 1e6 for one in ones),
                                                     median(one["p99"] / 1000 for one in ones)))) for ones in zip(*rounds))
    bench.add(f"{name}, throughput", "answers a second",
              {"4": few["rate"], "500": many["rate"], "500 beside big": crowded["rate"]},
              [Goal(few["rate"] / many["rate"], 2, "x fewer with 500 than with 4"),
               Goal(many["rate"] / crowded["rate"], 2, "x fewer beside big")])
    bench.add(f"{name}, p99", "ms", {"4": few["p99"], "500": many["p99"], "500 beside big": crowded["p99"]},
              [Goal(crowded["p99"] / many["p99"], 2, "x longer beside big")])


def run(bench):
    """All rows, in the order of the table."""
    cases = {case.name: case for case in questions.cases(bench.end)}
    six_days, big = cases["6 d at 5 m"], cases["big"]
    for case in cases.values():
        warm(bench, case)
    bytes_a_sample(bench, "memory, 6 d at 5 m", six_days.same())
    bytes_a_sample(bench, "memory, big", big.same())
    resident(bench, "resident, big", big.same()[0])
    refresh(bench, "refresh, 6 d at 5 m held", 6 * DAY, 300)
    refresh(bench, "refresh, 1 d at 5 m held", DAY, 300)
    step, day = 300, bench.end // DAY * DAY - 2 * DAY
    miss(bench, "miss, cut, 8 MB", racks(8), big.start, big.end, step, 1)
    for size, count in (("0.3 MB", 2), ("2 MB", 12), ("8 MB", 50)):
        miss(bench, f"miss, not cut, {size}", racks(count), day, day + DAY - step, step, 1.03)
    crowd(bench, "crowd", six_days.same(), big.same()[0])
