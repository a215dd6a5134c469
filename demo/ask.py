"""Asks a question and compares two answers, digit by digit.

Need: to say "the same answer" only when it is.
Rule: numbers are compared as the text they came as, never as floats; series order counts. Where the direct server
differs from itself at the very points that differ, the difference is its own and is reported as such.
"""

import http.client
import json
import time
from urllib.parse import urlencode

SELF_CHECKS = 20
YES, OWN, NO = "yes", "yes*", "NO"


class Server:
    """One HTTP connection that is kept, as Grafana keeps it."""

    def __init__(self, port, timeout=180):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def query_range(self, form):
        """(milliseconds until the last byte, the answer) of a POST, Grafana's default."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        body, begun = urlencode(form), time.perf_counter()
        try:
            self.connection.request("POST", "/api/v1/query_range", body, headers)
            response = self.connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            return (time.perf_counter() - begun) * 1000, Answer(0, f"no answer: {error!r}".encode(), "")
        elapsed = (time.perf_counter() - begun) * 1000
        return elapsed, Answer(response.status, data, response.getheader("X-Promfront-Result") or "")


class Answer:
    """A response body, read as JSON with every number left as text."""

    def __init__(self, status, body, result):
        self.status, self.body = status, body
        self.cache = result.split(";")[0].removeprefix("status=").strip() or "none"

    def parsed(self):
        try:
            document = json.loads(self.body, parse_float=str, parse_int=str, parse_constant=str)
        except ValueError:
            return self.status, self.body, [], []
        document = document if isinstance(document, dict) else {"not an object": document}
        notes = [sorted(document.pop(key, [])) for key in ("warnings", "infos")]
        data = document.get("data")
        series = data.pop("result", []) if isinstance(data, dict) else []
        return self.status, document, notes, series

    def error(self):
        """What went wrong, in a line, or nothing."""
        return "" if self.status == 200 else f"{self.status}: {self.body[:200].decode(errors='replace')}"

    def points(self):
        return sum(len(one.get("values", ())) for one in self.parsed()[3])


def differing(one, other):
    """The (series, instant) pairs whose values differ; None when more than values differ."""
    if one.body == other.body and one.status == other.status:
        return set()
    *rest, series = one.parsed()
    *other_rest, other_series = other.parsed()
    if rest != other_rest or [s.get("metric") for s in series] != [s.get("metric") for s in other_series]:
        return None
    found = set()
    for index, (a, b) in enumerate(zip(series, other_series)):
        left, right = a.pop("values", []), b.pop("values", [])
        if a != b or [t for t, _ in left] != [t for t, _ in right]:
            return None
        found.update((index, t) for (t, v), (_, w) in zip(left, right) if v != w)
    return found


def verdict(direct, answers, ask_again):
    """YES, OWN or NO for all answers against the direct one; `ask_again` asks the direct server once more."""
    wrong = set()
    for answer in answers:
        found = differing(direct, answer)
        if found is None:
            return NO
        wrong |= found
    for _ in range(SELF_CHECKS):
        if not wrong:
            break
        wrong -= differing(direct, ask_again()) or set()
    else:
        return NO if wrong else OWN
    return OWN if any(differing(direct, answer) for answer in answers) else YES


def explain(direct, answers):
    """The first difference, for a reader: which answer, which series, which instant, both values."""
    for name, answer in zip(("cold", "first warm", "second warm"), answers):
        found = differing(direct, answer)
        if found is None:
            return f"{name}: other series, instants, status or warnings; {answer.error() or answer.cache}"
        if found:
            index, instant = min(found, key=lambda pair: (pair[0], float(pair[1])))
            left, right = direct.parsed()[3][index], answer.parsed()[3][index]
            a, b = (dict(map(tuple, one["values"]))[instant] for one in (left, right))
            return (f"{name}: {len(found)} values differ; first {json.dumps(left['metric'])} at {instant}: "
                    f"direct {a}, promfront {b}")
    return ""
