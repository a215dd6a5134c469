"""What was measured, and whether it is good enough.

Need: one table that tells of each goal whether it is met, for people and, as JSON, for programs.
Rule: a goal is a ratio or a size with an upper bound; a row may have several, and each is judged by itself.
"""

import json
from dataclasses import asdict, dataclass, field


@dataclass
class Goal:
    """`value` is at most `most`, in what `unit` says: `x nginx`, `MB in all`."""

    value: float
    most: float
    unit: str

    def is_met(self):
        return self.value <= self.most

    def wanted(self):
        return f"<= {self.most:g} {self.unit}"

    def verdict(self):
        over = self.value / self.most
        if self.is_met():
            return f"met: {self.value:.3g}"
        return f"MISSED by {over:.3g} x: {self.value:.3g}" if over >= 1.1 else f"MISSED by {over - 1:.1%}: {self.value:.4g}"


@dataclass
class Row:
    """One line: what was measured, for each who answers, and what it is held against."""

    name: str
    unit: str
    values: dict
    goals: list = field(default_factory=list)
    note: str = ""


def cell(value):
    return "" if value is None else f"{value:.3f}" if value < 100 else f"{value:.0f}"


def lines(rows, columns):
    """The table, as Markdown that is legible as it stands. What has no column of its own stands with the note."""
    table = [["", "unit", *columns, "goal", "", ""]]
    for row in rows:
        others = ", ".join(f"{name} {cell(value)}" for name, value in row.values.items() if name not in columns)
        note = "; ".join(part for part in (others, row.note) if part)
        goals = row.goals or [None]
        for number, goal in enumerate(goals):
            judged = [goal.wanted(), goal.verdict()] if goal else ["", ""]
            if number == 0:
                table.append([row.name, row.unit, *(cell(row.values.get(name)) for name in columns), *judged, note])
            else:
                table.append(["", "", *("" for _ in columns), *judged, ""])
    widths = [max(len(line[at]) for line in table) for at in range(len(table[0]) - 1)]
    shown = [" | ".join(["", *(text.ljust(width) for text, width in zip(line, widths)), line[-1], ""]).strip() for line in table]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|---|"
    return [shown[0], rule, *shown[1:]]


def as_json(rows, **surroundings):
    told = [{**asdict(row), "goals": [{**asdict(goal), "met": goal.is_met()} for goal in row.goals]} for row in rows]
    return json.dumps({**surroundings, "rows": told}, indent=1)
