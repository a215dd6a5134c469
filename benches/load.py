"""Asking, and what it cost: wrk for answers of which there are many a second, one after the other for large ones.

Need: the cost of one answer, although others use the machine too.
Rule: who is compared is asked in turn, round by round, and the median of the rounds counts. Large answers are asked for
one by one and wholly read: wrk leaves what is under way when its time ends, which would be a large part of few.
"""

import json
import re
import subprocess
import sys
import time
from statistics import median

ROUNDS, ROUNDS_OF_LARGE = 3, 7
LARGE = 4e6  # bytes: an answer beyond is asked for one by one

LUA = """
local paths, at = {}, %d
for line in io.lines("%s") do paths[#paths + 1] = line end
request = function()
    at = at %% #paths + 1
    return wrk.format("GET", paths[at])
end
done = function(summary, latency)
    io.write(string.format("JSON {\\"requests\\": %%d, \\"bytes\\": %%d, \\"us\\": %%d, \\"errors\\": %%d, \\"p50\\": %%f, \\"p99\\": %%f}\\n",
        summary.requests, summary.bytes, summary.duration,
        summary.errors.connect + summary.errors.read + summary.errors.status + summary.errors.timeout,
        latency:percentile(50), latency:percentile(99)))
end
"""


def wrk(target, paths, seconds, work, connections=4, encoding="identity", begin=0):
    """Asks for the paths in turn, from the one at `begin` on, as fast as answers come. What wrk counted, and the seconds of CPU
    that an answer cost."""
    listed, script = work / "paths.txt", work / "load.lua"
    listed.write_text("".join(target.prefix + path + "\n" for path in paths))
    script.write_text((LUA % (begin, listed)))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "60s", "-s", str(script),
               "-H", f"Accept-Encoding: {encoding}", f"http://{target.host}:{target.port}"]
    cpu, done = target.cpu_of(lambda: subprocess.run(command, capture_output=True, text=True, check=False))
    told = re.search(r"^JSON (.*)$", done.stdout, re.M)
    if not told:
        sys.exit(f"bench: wrk said nothing of use about {target.name}:\n{done.stdout}{done.stderr}")
    counted = json.loads(told.group(1))
    if counted["errors"] or not counted["requests"]:
        sys.exit(f"bench: {target.name}: {counted['errors']} errors, {counted['requests']} answers")
    return {**counted, "cpu": cpu / counted["requests"]}


def one_by_one(target, paths, seconds, encoding="identity", begin=0):
    """Asks for the paths in turn, one at a time, two at least. Seconds of CPU an answer."""
    def ask():
        asked, until = 0, time.monotonic() + seconds
        while asked < 2 or time.monotonic() < until:
            target.fetch(paths[(begin + asked) % len(paths)], encoding)
            asked += 1
        return asked

    cpu, asked = target.cpu_of(ask)
    return cpu / asked


def in_turn(jobs, rounds):
    """Runs each job once a round; the median of what each one gives. A job is told the round."""
    given = {name: [] for name in jobs}
    for number in range(rounds):
        for name, job in jobs.items():
            given[name].append(job(number))
    return {name: median(values) for name, values in given.items()}
