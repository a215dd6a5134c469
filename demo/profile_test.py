"""The data of the test suite: about two hundred small series, each kind of trouble in one of them.

Need: queries whose answers differ at once when a cache cuts, joins, sorts or prints wrongly.
Rule: a family here exists for a reason, which its function names; values depend on the seed alone.
"""

import math

from series import DAY, Target, Track, counts, dice, drift, metric, running_sum

LES = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf")
SHARES = (0.04, 0.11, 0.22, 0.24, 0.18, 0.11, 0.05, 0.03, 0.015, 0.005)
ODD_TEXTS = (
    'a"quote', "back\\slash", "new\nline", "comma,", "eq=", "<html>&", "x", "x y", "x!", 'x"', "é", "日本", "\u00ff",
    "\u2028", "🦀", "long-" + "0123456789" * 199 + "-end!", "tab\there", "{}", "]]", "],[",
)


def groups(tl):
    """(type, family, function) for each group of series; a family's groups follow one another."""
    api = [Target(tl, "api", f"api-{i}:8080", offset, restarts, outages) for i, (offset, restarts, outages) in enumerate((
        (0, 3, ()), (1250, 2, ()), (7413, 4, ((0.231, 1500), (0.717, 4 * 3600))), (59001, 1, ((0.5, 240),))))]
    node = [Target(tl, "node", f"node-{i}:9100", offset, i, outages) for i, (offset, outages) in enumerate((
        (0, ()), (3777, ((0.618, 9000),)), (30000, ())))]
    yield "gauge", "up", lambda: (Track(metric("up", **t.labels), t.clock, t.up()) for t in api + node)
    yield "counter", "http_requests", lambda: (s for t in api for s in requests(tl, t))
    yield "histogram", "http_request_duration_seconds", lambda: (s for t in api for s in histogram(tl, t))
    yield "counter", "node_cpu_seconds", lambda: (s for t in node for s in cpu(tl, t))
    yield "gauge", "node_memory_free_bytes", lambda: (memory(tl, t) for t in node)
    yield "gauge", "temperature_celsius", lambda: temperature(tl)
    yield "gauge", "queue_depth", lambda: queues(tl)
    yield "gauge", "pod_cpu_usage", lambda: pods(tl)
    yield "gauge", "batch_last_success_timestamp_seconds", lambda: batches(tl)
    yield "gauge", "build_info", lambda: (s for t in api for s in builds(tl, t))
    yield "gauge", "odd_labels", lambda: odd_labels(tl)
    yield "gauge", "special_values", lambda: special_values(tl)
    yield "gauge", "collide_a", lambda: [Track(metric("collide_a", x="1"), tl.clock(), halves(tl)[0])]
    yield "gauge", "collide_b", lambda: [Track(metric("collide_b", x="1"), tl.clock(), halves(tl)[1], tl.size // 2)]
    yield "gauge", "constant_gauge", lambda: (
        Track(metric("constant_gauge", i=str(i)), tl.clock(), ["42.5"] * tl.size) for i in range(10))


def requests(tl, target):
    """Whole counters with resets; the 500s are rare, so that a rate is 0 for long."""
    for method, weight in (("GET", 40.0), ("POST", 9.0), ("DELETE", 0.7)):
        for code, share in (("200", 0.95), ("404", 0.045), ("500", 0.005)):
            name = metric("http_requests_total", **target.labels, method=method, code=code)
            roll = dice(name)
            increments = counts(roll, tl.wave(13.0 + len(method)), weight * share * tl.interval)
            yield target.track(name, map(str, running_sum(increments, target.resets)))


def histogram(tl, target):
    """Classic buckets: cumulative, each a counter with the resets of its process."""
    base, name = "http_request_duration_seconds", str(target.labels)
    cumulative = [0] * tl.size
    for le, share in zip(LES, SHARES):
        own = counts(dice(base, name, le), tl.wave(15.0), 50.0 * share * tl.interval)
        cumulative = [a + b for a, b in zip(cumulative, own)]
        yield target.track(metric(base + "_bucket", **target.labels, le=le),
                           map(str, running_sum(cumulative, target.resets)))
    x = dice(base, name, "sum").random
    spent = [n * (0.09 + 0.02 * x()) for n in cumulative]
    yield target.track(metric(base + "_sum", **target.labels), map(repr, running_sum(spent, target.resets)))
    yield target.track(metric(base + "_count", **target.labels), map(str, running_sum(cumulative, target.resets)))


def cpu(tl, target):
    """Float counters in hundredths of a second; one mode hardly moves."""
    for core in "01":
        for mode, share in (("idle", 0.71), ("user", 0.19), ("system", 0.07), ("iowait", 0.0004), ("steal", 0.02)):
            name = metric("node_cpu_seconds_total", **target.labels, cpu=core, mode=mode)
            ticks = running_sum(counts(dice(name), tl.wave(11.0), 100.0 * share * tl.interval), target.resets)
            yield target.track(name, (repr(n / 100) for n in ticks))


def memory(tl, target):
    """Large whole gauges: pages of 4 KiB, past what a 32-bit float holds."""
    name = metric("node_memory_free_bytes", **target.labels)
    walk, wave = drift(dice(name), tl.size, 90000.0), tl.wave(4.0)
    return target.track(name, (str(4096 * int(2_400_000 + 900_000 * w + v)) for w, v in zip(wave, walk)))


def temperature(tl):
    """Float gauges with every digit used, some below zero all the time, some around it."""
    for site, mean in (("oslo", -4.0), ("cairo", 24.0), ("lima", 0.5)):
        for k, room in enumerate(("attic", "cellar", "hall", "roof")):
            name = metric("temperature_celsius", site=site, room=room)
            roll = dice(name)
            walk, wave = drift(roll, tl.size, 0.4), tl.wave(15.0, 0.5 + 0.1 * k, 1.0)
            values = (repr(mean + 4.0 * (w - 1) + v) for w, v in zip(wave, walk))
            yield Track(name, tl.clock(137 * k), values)


def queues(tl):
    """Whole gauges with holes from minutes to hours, and one whole empty (UTC) day in the middle."""
    empty_from = (tl.start + (tl.end - tl.start) // 2) // DAY * DAY
    for k, queue in enumerate(("mail", "thumbs", "billing", "sparse")):
        name = metric("queue_depth", queue=queue)
        roll = dice(name)
        values = [str(int(max(0.0, 30 + 25 * w + v))) for w, v in zip(tl.wave(9.0 + k), drift(roll, tl.size, 30.0))]
        for _ in range(12 + 40 * k):
            begin, count = roll.randrange(tl.size), max(1, roll.choice((180, 360, 900, 5000, 20000)) // tl.interval)
            values[begin:begin + count] = [None] * len(values[begin:begin + count])
        values = [None if empty_from <= t < empty_from + DAY else v for t, v in zip(tl.grid, values)]
        yield Track(name, tl.clock(11 * k), values, holes=True)


def pods(tl):
    """Churn: pods that live about a day and start and stop at odd times, so series come and go between cuts."""
    for namespace in ("shop", "search", "batch"):
        roll = dice("pod_cpu_usage", namespace)
        for slot in range(2):
            at = -roll.randrange(tl.per_day)
            while at < tl.size:
                life = int(tl.per_day * (0.4 + 1.3 * roll.random()))
                low, high = max(0, at), min(tl.size, at + life)
                pod = f"{namespace}-{slot}-{roll.getrandbits(28):07x}"
                if high > low:
                    x, wave = roll.random, tl.wave(16.0)
                    values = [repr(0.2 * w * (0.8 + 0.4 * x())) for w in wave[low:high]]
                    yield Track(metric("pod_cpu_usage", namespace=namespace, pod=pod), tl.clock(501 * slot), values, low)
                at += life + roll.randrange(-3, max(4, tl.per_day // 12))


def batches(tl):
    """Unix times as values: ten digits, printed without an exponent; one batch fails for days."""
    for batch, period in (("hourly", 3600), ("nightly", DAY), ("stuck", 7 * DAY)):
        late = 41.25 if batch == "hourly" else 613.0
        values = [repr(t // period * period + late - (period if t % period < late else 0)) for t in tl.grid]
        yield Track(metric("batch_last_success_timestamp_seconds", batch=batch), tl.clock(), values)


def builds(tl, target):
    """A version that changes once, near the middle: the old series ends, a new one begins."""
    index = tl.size // 2 + int(target.labels["instance"][4]) * 7
    for version, low, high in (("1.9.3", 0, index), ("1.10.0-rc.1", index, tl.size)):
        yield Track(metric("build_info", **target.labels, version=version), target.clock, ["1"] * (high - low), low)


def odd_labels(tl):
    """Label values that break a careless writer, reader, sorter or key."""
    for k, text in enumerate(ODD_TEXTS):
        yield Track(metric("odd_labels", text=text), tl.clock(), [repr(k + 0.1 * (i % 7)) for i in range(tl.size)])


def special_values(tl):
    """Values that are no ordinary number, and the ends of the range of a 64-bit float."""
    cycle = ("NaN", "1", "+Inf", "2.5", "-Inf", "-0", "1e+21", "1e-7", "0.1", "123456789.123", "NaN", "NaN")
    kinds = {
        "nan": lambda i: "NaN", "posinf": lambda i: "+Inf", "neginf": lambda i: "-Inf", "negzero": lambda i: "-0",
        "tiny": lambda i: repr(2.2250738585072014e-308 * (1 + i % 5)),
        "huge": lambda i: repr(1.7976931348623157e308 / (1 + i % 3)),
        "subnormal": lambda i: repr(5e-324 * (1 + i % 11)),
        "alternating": lambda i: cycle[i % len(cycle)],
    }
    for kind, value in kinds.items():
        yield Track(metric("special_values", kind=kind), tl.clock(), [value(i) for i in range(tl.size)])


def halves(tl):
    """Two metrics that never meet: without their names they are one series, from two halves."""
    middle = tl.size // 2
    values = [repr(math.sin(i / 97) * 10 + 20) for i in range(tl.size)]
    return values[:middle], values[middle:]
