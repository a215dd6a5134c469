"""The data of the benchmark: the demo's month, and beside it a fleet whose answer to one selector is large.

Need: one sorted answer of 1,600 series, and answers of any size below it by a matcher on `rack` and `slot`.
Rule: the demo's series stay what they are; the fleet is there for the last week only and sampled a quarter as often, so that
making both takes little longer than the demo's alone. Its values are of four kinds and twelve characters on average: whole
counters, counters in hundredths, gauges of every digit, gauges of a few.
"""

import profile_demo
from series import Timeline, Track, counts, dice, drift, metric, running_sum

NAME, RACKS, SLOTS, DAYS = "fleet_work", 80, 20, 7
KINDS = ("frames", "seconds", "ratio", "celsius")


def groups(tl):
    """The demo's groups, and one for each rack."""
    yield from profile_demo.groups(tl)
    days = min(DAYS, (tl.end - tl.start) // 86400)
    short = Timeline(tl.end, days, 4 * tl.interval, 86400)
    short.edges = tl.edges  # The same slices of text, of which the earlier ones have nothing of it.
    yield from profile_demo.each("unknown", NAME, rack, short, [(number,) for number in range(RACKS)])


def rack(tl, number):
    """Twenty series; the kind goes by the slot."""
    for slot in range(SLOTS):
        kind = KINDS[slot % len(KINDS)]
        name = metric(NAME, cluster="bench-1", container="worker", instance=f"10.{number}.{slot}.7:9100", kind=kind,
                      namespace="fleet", pod=f"worker-{number:02d}-{slot:02d}", rack=f"r{number:02d}", slot=f"{slot:02d}")
        yield Track(name, tl.clock(1000 * (slot % 5)), values(tl, kind, dice(name)))


def values(tl, kind, roll):
    base = roll.randrange(100_000, 900_000)
    if kind in ("frames", "seconds"):
        total = running_sum(counts(roll, tl.wave(19.0), base / 20), ())
        return [str(n + 1000 * base) for n in total] if kind == "frames" else [repr((n + 100 * base) / 100) for n in total]
    walk = drift(roll, tl.size, 0.02)
    if kind == "ratio":
        return [repr(0.5 + v) for v in walk]
    return [f"{41 + 20 * v:.4f}" for v in walk]
