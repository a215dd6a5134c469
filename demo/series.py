"""Clocks, targets and value shapes: what both profiles are built from.

Need: tens of millions of samples from plain Python in well under a minute, the same ones on every run.
Rule: everything that repeats is computed once (time stamps as text, daily and weekly waves), one series is one list of
value texts, and every series draws from its own generator, seeded by its name: no series depends on another's place.
"""

import math
import random
from bisect import bisect_left
from itertools import accumulate

DAY = 86400
ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def metric(name, /, **labels):
    """A series' text, `name{a="1"}`, with label values escaped as OpenMetrics wants them."""
    inner = ",".join(f'{k}="{v.translate(ESCAPES)}"' for k, v in labels.items())
    return f"{name}{{{inner}}}"


def dice(*parts):
    """The generator of one series (or one event): text seeds give the same draws on every machine and every run."""
    return random.Random("/".join(map(str, parts)))


class Clock:
    """The instants of one scrape offset, as text, and where each time slice begins among them."""

    def __init__(self, timeline, offset_ms):
        stamps = [t * 1000 - offset_ms for t in timeline.grid]
        self.bounds = [bisect_left(stamps, edge * 1000) for edge in timeline.edges]
        self.suffixes = [f" {ms // 1000}\n" if ms % 1000 == 0 else f" {ms // 1000}.{ms % 1000:03d}\n" for ms in stamps]


class Timeline:
    """The grid of scrape instants from `end - days` to `end`, both included, cut at the block edges."""

    def __init__(self, end, days, interval, slice_seconds):
        self.interval = interval
        self.start, self.end = end - days * DAY, end
        self.grid = range(self.start, end + 1, interval)
        self.size = len(self.grid)
        first = self.start // slice_seconds * slice_seconds
        self.edges = [*range(first, end, slice_seconds), end + 1]
        self.per_day = max(1, DAY // interval)
        self._clocks, self._waves = {}, {}

    def clock(self, offset_ms=0):
        if offset_ms not in self._clocks:
            self._clocks[offset_ms] = Clock(self, offset_ms)
        return self._clocks[offset_ms]

    def index(self, fraction):
        """The grid index at a fraction of the whole time."""
        return min(self.size - 1, max(0, int(self.size * fraction)))

    def wave(self, hour=14.0, swing=0.6, weekend=0.7):
        """A factor around 1: high at `hour` each day, lower by `weekend` on Saturday and Sunday (smoothly)."""
        key = (hour, swing, weekend)
        if key not in self._waves:
            self._waves[key] = [self._wave_at(t, *key) for t in self.grid]
        return self._waves[key]

    @staticmethod
    def _wave_at(t, hour, swing, weekend):
        daily = 1 + swing * math.cos(2 * math.pi * (t / DAY - hour / 24)) + 0.12 * math.cos(math.pi * (t / DAY * 6))
        from_weekend = abs((t / DAY + 0.5) % 7 - 3.5)  # days from the middle of the weekend; the epoch was a Thursday
        depth = (1 - weekend) / (1 + math.exp((from_weekend - 1.0) * 12))
        return max(0.05, daily * (1 - depth))


class Target:
    """One scraped process: its scrape offset, the indexes where it restarted, the spans where it was down."""

    def __init__(self, timeline, job, instance, offset_ms=0, restarts=0, outages=()):
        self.timeline, self.labels = timeline, {"job": job, "instance": instance}
        self.clock = timeline.clock(offset_ms)
        roll = dice("target", job, instance)
        self.resets = sorted(roll.randrange(1, timeline.size) for _ in range(restarts))
        self.outages = sorted((timeline.index(f), max(1, seconds // timeline.interval)) for f, seconds in outages)
        self.resets = sorted({*self.resets, *(i + n for i, n in self.outages if i + n < timeline.size)})

    def up(self):
        """Text values of `up`: 1, and 0 while the target is down."""
        values = ["1"] * self.timeline.size
        for begin, count in self.outages:
            values[begin:begin + count] = ["0"] * len(values[begin:begin + count])
        return values

    def track(self, name, values):
        """One series of this target, with holes where the target was down."""
        values = list(values)
        for begin, count in self.outages:
            values[begin:begin + count] = [None] * len(values[begin:begin + count])
        return Track(name, self.clock, values, holes=bool(self.outages))


class Track:
    """One series: its text, its clock, one value text for each instant from index `begin` on (None: no sample)."""

    def __init__(self, name, clock, values, begin=0, holes=False):
        self.name, self.clock, self.begin = name, clock, begin
        self.values = values if isinstance(values, list) else list(values)
        self.holes = holes

    def slices(self):
        """The series' lines for each time slice, one text each."""
        bounds = self.clock.bounds
        return [self._lines(low, high) for low, high in zip(bounds, bounds[1:])]

    def _lines(self, low, high):
        low, high = max(low, self.begin), min(high, self.begin + len(self.values))
        if low >= high:
            return ""
        pairs = zip(self.values[low - self.begin:high - self.begin], self.clock.suffixes[low:high])
        samples = [v + s for v, s in pairs if v is not None] if self.holes else [v + s for v, s in pairs]
        prefix = self.name + " "
        return prefix + prefix.join(samples) if samples else ""


def running_sum(increments, resets):
    """A counter: the running sum of the increments, which begins again at each reset."""
    edges = [0, *(r for r in resets if 0 < r < len(increments)), len(increments)]
    total = []
    for low, high in zip(edges, edges[1:]):
        total.extend(accumulate(increments[low:high]))
    return total


def counts(roll, wave, per_scrape):
    """Whole increments around `per_scrape` times the wave; small rates come out as rare ones."""
    x = roll.random
    return [int(w * per_scrape * (0.7 + 0.6 * x()) + x()) for w in wave]


def drift(roll, size, step, pull=0.02):
    """A slow random walk around 0 that is drawn back to it; the slow part of a gauge."""
    x, value, out = roll.random, 0.0, []
    for _ in range(size):
        value += step * (x() - 0.5) - pull * value
        out.append(value)
    return out
