"""What is asked: panels of a dashboard and parts of the fleet, over windows that stand still or move.

Need: answers of known sizes, each in two ways: `same`, one window again and again, and `moving`, where each request asks for
another window and all of them are held.
Rule: a moving window begins and ends some steps before or after the one that stands still, evenly to both sides, so its
answers are as long on average. The order is drawn once from a fixed seed; a window does not come again before all have been.
"""

import random
from dataclasses import dataclass
from typing import Callable
from urllib.parse import urlencode

import panels
from profile_bench import NAME as FLEET

DAY = 86400
MOST_PATHS = 8000


def question(query, start, end, step):
    return "/api/v1/query_range?" + urlencode({"query": query, "start": start, "end": end, "step": step})


def dashboard(step, mark="", interval=60):
    """Twelve panels as Grafana would ask for them: a function of the window. `mark` makes them another's question."""
    rate = panels.duration(max(step + interval, 4 * interval))
    chosen = [(name, query) for name, query in panels.PANELS if "offset" not in query and "subquery" not in name][:12]
    queries = [query.replace("$__rate_interval", rate) + mark for _, query in chosen]
    return lambda start, end: [question(query, start, end, step) for query in queries]


def fleet(matchers, step):
    """A part of the fleet, or all of it: a function of the window."""
    return lambda start, end: [question(f"{FLEET}{{{matchers}}}", start, end, step)]


def racks(count):
    """The matcher on so many racks, of twenty series each."""
    return 'rack=~"' + "|".join(f"r{number:02d}" for number in range(count)) + '"'


@dataclass
class Case:
    """A question of one size. `margin`: by how many steps its window moves at most, to either side."""

    name: str
    asks: Callable
    start: int
    end: int
    step: int
    margin: int = 50

    def held(self):
        """All that is asked for, in one window each."""
        room = self.margin * self.step
        return self.asks(self.start - room, self.end + room)

    def same(self):
        return self.asks(self.start, self.end)

    def beside(self):
        """Two windows as long as the one that stands still."""
        return [path for by in (5, -11) for path in self.asks(self.start + by * self.step, self.end + by * self.step)]

    def moving(self):
        shifts = range(-self.margin, self.margin + 1)
        windows = [(first, last) for first in shifts for last in shifts]
        random.Random(1).shuffle(windows)
        windows = windows[:MOST_PATHS // len(self.same())]
        return [path for first, last in windows
                for path in self.asks(self.start + first * self.step, self.end + last * self.step)]


def cases(end):
    """By size. The windows end before `end`, with room to move."""
    def case(name, asks, seconds, step, margin=50):
        last = (end - margin * step) // step * step
        return Case(name, asks(step), last - seconds, last, step, margin)

    return [
        case("30 kB", lambda step: fleet(racks(1) + ',slot=~"0[0-3]"', step), DAY, 300),
        case("dashboard 28 d at 1 h", dashboard, 28 * DAY, 3600, margin=12),
        case("dashboard 6 d at 5 m", dashboard, 6 * DAY, 300),
        case("1 MB", lambda step: fleet(racks(1), step), 1727 * 300, 300),
        case("8 MB", lambda step: fleet(racks(8), step), 1727 * 300, 300),
        case("big", lambda step: fleet("", step), 1727 * 300, 300),
    ]
