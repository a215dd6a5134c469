"""The data of the demo: a small shop's month, five services on ten hosts, as their exporters would have told it.

Need: panels that look like panels: days and weekends, deploys, an outage, an error burst, pods that come and go.
Rule: names and labels are those of the well-known exporters, so that common dashboards and queries fit.
"""

import math
from functools import lru_cache

from series import DAY, Target, Track, counts, dice, drift, metric, running_sum

SERVICES = {  # requests a second for each instance, busy hour (UTC), median seconds, share of failures
    "frontend": (38.0, 19.0, 0.021, 0.004),
    "checkout": (4.6, 18.5, 0.140, 0.011),
    "catalog": (61.0, 19.0, 0.008, 0.0007),
    "payments": (2.1, 18.0, 0.310, 0.006),
    "search": (17.0, 20.0, 0.065, 0.002),
}
INSTANCES, HOSTS, CORES = 3, 10, 4
LES = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf")
CODES = (("GET", "200", 0.71), ("GET", "304", 0.09), ("GET", "404", 0.03), ("POST", "200", 0.15), ("POST", "400", 0.02))
MODES = {"idle": 0.0, "user": 0.62, "system": 0.24, "iowait": 0.09, "softirq": 0.03, "steal": 0.02}
DEVICES = {"eth0": (2.1e6, 1.4e6), "eth1": (6.4e5, 9.0e5), "docker0": (2.2e5, 2.6e5), "lo": (8.1e4, 8.1e4)}
MOUNTS = {"/": ("sda1", 64, 0.55), "/boot": ("sda2", 1, 0.3), "/var/lib/docker": ("sdb1", 400, 0.7)}
UNITS = ("chrony", "containerd", "docker", "kubelet", "rsyslog", "ssh")


def groups(tl):
    """(type, family, function) for each group of series; a family's groups follow one another."""
    apps = {s: [app(tl, s, i) for i in range(INSTANCES)] for s in SERVICES}
    hosts = [host(tl, i) for i in range(HOSTS)]
    pairs = [(s, t) for s, targets in apps.items() for t in targets]
    targets = [t for _, t in pairs] + hosts
    yield "gauge", "up", lambda: (Track(metric("up", **t.labels), t.clock, t.up()) for t in targets)
    yield from each("counter", "http_requests", requests, tl, pairs)
    yield from each("histogram", "http_request_duration_seconds", latency, tl, pairs)
    yield from each("gauge", "process_resident_memory_bytes", resident_memory, tl, pairs)
    yield from each("gauge", "cache_hit_ratio", hit_ratio, tl, pairs)
    alone = [(t,) for t in hosts]
    yield from each("counter", "node_cpu_seconds", cpu, tl, alone)
    for name in ("node_memory_MemTotal_bytes", "node_memory_MemAvailable_bytes", "node_memory_Cached_bytes"):
        yield from each("gauge", name, memory, tl, [(t, name) for t in hosts])
    for name in ("node_filesystem_size_bytes", "node_filesystem_avail_bytes"):
        yield from each("gauge", name, filesystem, tl, [(t, name) for t in hosts])
    for k, name in enumerate(("node_network_receive_bytes", "node_network_transmit_bytes")):
        yield from each("counter", name, network, tl, [(t, name, k) for t in hosts])
    for name in ("node_disk_read_bytes", "node_disk_written_bytes"):
        yield from each("counter", name, disk, tl, [(t, name) for t in hosts])
    for minutes in (1, 5, 15):
        yield from each("gauge", f"node_load{minutes}", load, tl, [(t, minutes) for t in hosts])
    yield from each("gauge", "node_systemd_unit_state", units, tl, alone)
    slots = [(s, i) for s in SERVICES for i in range(INSTANCES)]
    yield from each("counter", "container_cpu_usage_seconds", container_cpu, tl, slots)
    yield from each("gauge", "container_memory_working_set_bytes", container_memory, tl, slots)
    yield "gauge", "batch_job_progress_ratio", lambda: nightly(tl)


def each(kind, family, function, tl, arguments):
    """One group for each tuple of arguments, bound now."""
    return ((kind, family, lambda a=a: function(tl, *a)) for a in arguments)


def app(tl, service, i):
    outages = ((0.41, 5400),) if (service, i) == ("search", 1) else ()
    return Target(tl, service, f"10.0.{sorted(SERVICES).index(service)}.{10 + i}:8080", 1370 * (3 * i + len(service)), 5, outages)


def host(tl, i):
    outages = ((0.36, 9 * 3600),) if i == 7 else ((0.83, 700),) if i == 3 else ()
    return Target(tl, "node", f"host-{i:02d}:9100", 2741 * i + 59, i % 3, outages)


@lru_cache(maxsize=None)
def busy(tl, target):
    """How busy a host is, 0 to 1: some serve shoppers, some work at night."""
    i = int(target.labels["instance"][5:7])
    wave, walk = tl.wave((19.0, 18.0, 20.0, 2.0)[i % 4], 0.6, 0.8), drift(dice("busy", i), tl.size, 0.05)
    return [min(0.97, max(0.02, 0.13 * (1 + i % 4) * w + v)) for w, v in zip(wave, walk)]


def requests(tl, service, target):
    """Whole counters; server errors grow tenfold in two short bursts."""
    rate, hour, _, failing = SERVICES[service]
    wave = tl.wave(hour, 0.65, 0.75)
    for method, code, share in CODES:
        name = metric("http_requests_total", **target.labels, method=method, code=code)
        increments = counts(dice(name), wave, rate * share * tl.interval)
        yield target.track(name, map(str, running_sum(increments, target.resets)))
    bursts = [(tl.index(f), tl.index(f) + max(1, 5000 // tl.interval)) for f in (0.44, 0.957)]
    for method, code in (("GET", "500"), ("POST", "500"), ("POST", "503")):
        name = metric("http_requests_total", **target.labels, method=method, code=code)
        increments = counts(dice(name), wave, rate * failing / 3 * tl.interval)
        for low, high in bursts:
            increments[low:high] = [10 * n for n in increments[low:high]]
        yield target.track(name, map(str, running_sum(increments, target.resets)))


def below(seconds, median, spread=0.85):
    """The share of requests that take at most `seconds`: a log-normal law."""
    return 0.5 * (1 + math.erf(math.log(seconds / median) / (spread * math.sqrt(2))))


def latency(tl, service, target):
    """Classic buckets; the median grows by two thirds with the load."""
    base, (rate, hour, median, _) = "http_request_duration_seconds", SERVICES[service]
    wave = tl.wave(hour, 0.65, 0.75)
    edges = [float(le) for le in LES[:-1]]
    quiet, loaded = ([*(below(e, m) for e in edges), 1.0] for m in (median * 0.8, median * 1.35))
    cumulative, last = [0] * tl.size, (0.0, 0.0)
    for le, now in zip(LES, zip(quiet, loaded)):
        q, b = now[0] - last[0], now[1] - last[1]
        own = counts(dice(base, service, target.labels["instance"], le),
                     [w * (q + (b - q) * 0.6 * w) for w in wave], rate * tl.interval)
        cumulative, last = [a + c for a, c in zip(cumulative, own)], now
        yield target.track(metric(base + "_bucket", **target.labels, le=le),
                           map(str, running_sum(cumulative, target.resets)))
    x = dice(base, service, target.labels["instance"]).random
    spent = [n * median * (1.0 + 0.35 * w + 0.1 * x()) for n, w in zip(cumulative, wave)]
    yield target.track(metric(base + "_sum", **target.labels), map(repr, running_sum(spent, target.resets)))
    yield target.track(metric(base + "_count", **target.labels), map(str, running_sum(cumulative, target.resets)))


def resident_memory(tl, service, target):
    """Grows from each restart on, in pages."""
    name = metric("process_resident_memory_bytes", **target.labels)
    roll = dice(name)
    x, base = roll.random, 20_000 + roll.randrange(40_000)
    leak = running_sum([0.9 * tl.interval / 60] * tl.size, target.resets)
    yield target.track(name, [str(4096 * int(base + n + 900 * x())) for n in leak])


def hit_ratio(tl, service, target):
    """A gauge that uses every digit of its float."""
    name = metric("cache_hit_ratio", **target.labels)
    walk = drift(dice(name), tl.size, 0.02)
    yield target.track(name, [repr(min(1.0, 0.9 - 0.05 * w + v)) for w, v in zip(tl.wave(19.0), walk)])


def cpu(tl, target):
    """Each core's seconds, in ticks of 10 ms; the modes of a core add up to the time that passed."""
    level = busy(tl, target)
    for core in range(CORES):
        roll = dice("cpu", target.labels["instance"], core)
        x, ticks = roll.random, 100 * tl.interval
        used = [int(b * ticks * (0.75 + 0.5 * x())) for b in level]
        used = [min(u, ticks) for u in used]
        for mode, share in MODES.items():
            part = [ticks - u for u in used] if mode == "idle" else [int(u * share * (0.8 + 0.4 * x())) for u in used]
            name = metric("node_cpu_seconds_total", **target.labels, cpu=str(core), mode=mode)
            yield target.track(name, [repr(n / 100) for n in running_sum(part, target.resets)])


def memory(tl, target, name):
    total = 16 * 2**30 if int(target.labels["instance"][5:7]) % 2 else 32 * 2**30
    series = metric(name, **target.labels)
    if "Total" in name:
        yield target.track(series, [str(total - 187_392 * 1024)] * tl.size)
        return
    share, walk = (0.55 if "Avail" in name else 0.28), drift(dice(series), tl.size, 0.004)
    pages = total // 4096
    yield target.track(series, [str(4096 * int(pages * (share - 0.06 * w + v))) for w, v in zip(tl.wave(19.0), walk)])


def filesystem(tl, target, name):
    """Fills up for days, then somebody cleans."""
    for mount, (device, gib, share) in MOUNTS.items():
        series = metric(name, **target.labels, device="/dev/" + device, fstype="ext4", mountpoint=mount)
        blocks = gib * 2**30 // 4096
        if "size" in name:
            yield target.track(series, [str(4096 * blocks)] * tl.size)
            continue
        roll = dice(series)
        x, cleaned, grown = roll.random, sorted(roll.randrange(tl.size) for _ in range(4)), 0.12 * blocks / (7 * tl.per_day)
        used = running_sum([grown * 2 * x() for _ in range(tl.size)], cleaned)
        yield target.track(series, [str(4096 * int(max(0, blocks * share - u))) for u in used])


def network(tl, target, name, direction):
    wave = busy(tl, target)
    for device, rates in DEVICES.items():
        series = metric(name + "_total", **target.labels, device=device)
        increments = counts(dice(series), wave, rates[direction] * 3 * tl.interval)
        yield target.track(series, map(str, running_sum(increments, target.resets)))


def disk(tl, target, name):
    wave = busy(tl, target)
    for device, rate in (("sda", 60.0), ("sdb", 340.0)):
        series = metric(name + "_total", **target.labels, device=device)
        increments = [4096 * n for n in counts(dice(series), wave, rate * tl.interval)]
        yield target.track(series, map(str, running_sum(increments, target.resets)))


def load(tl, target, minutes):
    """The load average, in hundredths; the longer ones are smoother."""
    name = metric(f"node_load{minutes}", **target.labels)
    x, noise = dice(name).random, 1.2 / minutes
    yield target.track(name, [repr(round(CORES * b * (1 + noise * (x() - 0.4)), 2)) for b in busy(tl, target)])


def units(tl, target):
    """Many series that hardly ever change; one unit fails for an afternoon."""
    for unit in UNITS:
        failed = unit == "chrony" and target.labels["instance"].startswith("host-04")
        low, high = (tl.index(0.6), tl.index(0.608)) if failed else (0, 0)
        for state, usual in (("active", "1"), ("failed", "0")):
            values = [usual] * tl.size
            values[low:high] = ["0" if usual == "1" else "1"] * (high - low)
            yield target.track(metric("node_systemd_unit_state", **target.labels, name=unit + ".service", state=state), values)


def pod_lives(tl, service, slot):
    """(pod, node, first index, end index): a slot is filled at once when its pod goes away."""
    roll = dice("pods", service, slot)
    at = -roll.randrange(tl.per_day)
    while at < tl.size:
        life = int(tl.per_day * (0.2 + 2.4 * roll.random() ** 2))
        pod, node = f"{service}-{roll.getrandbits(36):09x}-{roll.getrandbits(20):05x}", f"host-{roll.randrange(HOSTS):02d}"
        if at + life > 0:
            yield {"namespace": "shop", "pod": pod, "container": service, "node": node}, max(0, at), min(tl.size, at + life)
        at += life + roll.randrange(1, 6)


def container_cpu(tl, service, slot):
    rate, hour, median, _ = SERVICES[service]
    for labels, low, high in pod_lives(tl, service, slot):
        name = metric("container_cpu_usage_seconds_total", **labels)
        x, scale = dice(name).random, 0.06 * tl.interval * (1 + rate * median)
        total = running_sum([scale * w * (0.7 + 0.6 * x()) for w in tl.wave(hour)[low:high]], ())
        yield Track(name, tl.clock(311 * slot), [repr(v) for v in total], low)


def container_memory(tl, service, slot):
    for labels, low, high in pod_lives(tl, service, slot):
        name = metric("container_memory_working_set_bytes", **labels)
        roll = dice(name)
        base, walk = 30_000 + roll.randrange(50_000), drift(roll, high - low, 700.0)
        yield Track(name, tl.clock(311 * slot), [str(4096 * int(base + v)) for v in walk], low)


def nightly(tl):
    """A series that stops and starts: it is there only while the night's job runs."""
    begin, length = 3600, 9000
    for report in ("sales", "stock"):
        values = [repr(round((t % DAY - begin) / length, 4)) if begin <= t % DAY < begin + length else None for t in tl.grid]
        yield Track(metric("batch_job_progress_ratio", report=report), tl.clock(), values, holes=True)
        length += 4000
