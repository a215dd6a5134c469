"""The rows: what is measured, and the goals.

Need: each goal of the project as a figure that a run on any machine can hold it against.
Rule: a process that is weighed holds nothing but what the row names; what depends on the time of day, on what others asked
before or on the machine is measured in pairs, in turn, and the median counts.
"""

import re
import threading
import time
from dataclasses import replace
from statistics import median

import load
import questions
from bench import MB, check
from questions import DAY, fleet, racks
from servers import forget_peak, memory
from table import Goal
from warm import warm


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


def miss(bench, name, matchers, start, end, step, most, encoding="identity"):
    """An answer that nobody has: CPU for what comes in, and the time beside the server alone, in pairs; also of an nginx that only hands
    on. `most`: what the time may be of the server's, less than 1 for what is cut."""
    if not bench.wanted(name):
        return
    count = iter(range(10**6))

    def path():
        """The same answer to another question each time: no series has the label."""
        return fleet(f'{matchers}, bench!="{name} {next(count)}"', step)(start, end)[0]

    body, result, _ = check(bench, path(), status="miss")
    bench.prometheus.fetch(path(), encoding)
    directs, values, goals, notes = [], {}, [], []
    relay = replace(bench.nginx, name="nginx", prefix="/through")
    for target in [*bench.proxies(), relay]:
        through = []
        # All of what it used meanwhile, also for what it does after an answer has gone out.
        cpu, _ = target.cpu_of(lambda: in_pairs(bench, target, path, encoding, directs, through))
        values[target.name] = cpu / len(through) / (len(body) / MB) * 1000
        (first, wall), direct = (median(column) for column in zip(*through)), median(directs)
        fastest = min(last for _, last in through) / min(directs)
        notes.append(f"{target.name}: {wall / direct:.2f} x direct (fastest {fastest:.2f}), first byte after {first / wall:.0%}")
        if target is bench.promfront:
            goals = [Goal(values["promfront"], 3.9, "ms a MB"), Goal(wall / direct, most, "x the time of the server alone")]
    parts = re.search(r"parts=(\d+)", result).group(1)
    bench.add(name, "ms of CPU a MB", values, goals,
              f"{len(body) / MB:.1f} MB, {parts} parts; direct {median(directs) * 1000:.1f} ms; {'; '.join(notes)}")


def in_pairs(bench, target, path, encoding, directs, through):
    """Asks the server and the target, then the target and the server, and so on: the times of each."""
    until, turn = time.monotonic() + bench.args.seconds, 0
    while turn < 11 or (turn < 201 and time.monotonic() < until):
        pair = [lambda: directs.append(bench.prometheus.fetch(path(), encoding)[1]),
                lambda: through.append(target.fetch(path(), encoding))]
        for ask in pair if turn % 2 else reversed(pair):
            ask()
        turn += 1
    bench.prometheus.fetch(path(), encoding)


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
    six_days, big = cases["dashboard 6 d at 5 m"], cases["big"]
    for case in cases.values():
        warm(bench, case)
    bytes_a_sample(bench, "memory, dashboard 6 d at 5 m", six_days.same())
    bytes_a_sample(bench, "memory, big", big.same())
    resident(bench, "resident, big", big.same()[0])
    refresh(bench, "refresh, 6 d at 5 m held", 6 * DAY, 300)
    refresh(bench, "refresh, 1 d at 5 m held", DAY, 300)
    step, day = 300, bench.end // DAY * DAY - 2 * DAY
    miss(bench, "miss, cut, 8 MB", racks(8), big.start, big.end, step, 1)
    for size, count in (("0.3 MB", 2), ("2 MB", 12), ("8 MB", 50)):
        miss(bench, f"miss, not cut, {size}", racks(count), day, day + DAY - step, step, 1.03)
        miss(bench, f"miss, not cut, {size}, gzip", racks(count), day, day + DAY - step, step, 1.03, "gzip")
    crowd(bench, "crowd", six_days.same(), big.same()[0])
