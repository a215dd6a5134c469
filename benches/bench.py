"""What every row needs: who is measured, what was found, and the certainty that answers are right before they are measured.

Need: figures of answers that are the server's own.
Rule: nothing is measured that was not compared first. promfront's bytes are the server's; that an answer came out of the cache is
seen in its headers, and for a whole load in that the server was asked nothing.
"""

import argparse
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from servers import Servers, Strangers, Target
from table import Row

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
    strangers: Strangers
    rows: list = field(default_factory=list)

    def wanted(self, name):
        return not self.args.only or re.search(self.args.only, name)

    def add(self, name, unit, values, goals=(), note=""):
        others = self.strangers.lately()
        if others > 0.1:
            note = f"{note}; others used {others:.1f} cores".lstrip("; ")
        self.rows.append(Row(name, unit, values, list(goals), note))
        shown = ", ".join(f"{who} {value:.3f}" for who, value in values.items())
        judged = "; ".join(f"{goal.wanted()}: {goal.verdict()}" for goal in goals)
        say(f"{name}: {shown} {unit}; {judged or 'no goal'}" + (f"; {note}" if note else ""))

    def proxies(self):
        return [self.promfront, *self.extra]


def check(bench, path, promfront=None, status="hit"):
    """promfront's answer is the server's and came as `status` says. Its body, its result, and what it cost the server."""
    promfront = promfront or bench.promfront
    cpu, (_, want) = bench.prometheus.cpu_of(lambda: bench.prometheus.get(path))
    response, body = promfront.get(path)
    result = response.getheader("x-promfront-result") or ""
    if body != want or not result.startswith(f"status={status};"):
        sys.exit(f"bench: {path[:160]}: {result}, wanted {status}" + ("" if body == want else ", and another answer than the server's"))
    return body, result, cpu


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
