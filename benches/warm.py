"""Warm answers: what promfront holds, plain and packed, beside nginx that sends the same bytes from files.

Need: to know whether an answer out of the cache costs little more than moving its bytes, and whether packing it costs more.
Rule: one window that stands still, and windows that move, are rows of their own: what is remembered of an answer as it was sent
must not hide what cutting another one out of what is held costs. What is packed unpacks to what is plain.
"""

import gzip
import hashlib
import sys
from dataclasses import dataclass
from statistics import mean

import load
from bench import AllHits, check
from servers import on_one_core
from table import Goal


@dataclass
class Looked:
    """Answers that were compared, on average: bytes, bytes packed by promfront and by `gzip -1`, and milliseconds of CPU that they
    cost the server; and the same answers as files of nginx."""

    files: list
    size: float
    packed: float
    by_gzip: float
    direct: float


def look_at(bench, paths):
    files, told = [], []
    for path in paths:
        body, _, cpu = check(bench, path)
        packed, by_gzip = bench.promfront.get(path, "gzip")[1], gzip.compress(body, 1)
        if gzip.decompress(packed) != body:
            sys.exit(f"bench: {path[:160]}: unpacks to another answer")
        name = hashlib.sha256(path.encode()).hexdigest()[:24] + ".json"
        (bench.servers.files / name).write_bytes(body)
        (bench.servers.files / (name + ".gz")).write_bytes(by_gzip)
        files.append("/" + name)
        told.append((len(body), len(packed), len(by_gzip), cpu * 1000))
    return Looked(files, *(mean(column) for column in zip(*told)))


def warm(bench, case):
    """CPU of a warm answer, plain and packed, beside nginx that sends the same bytes from files; one window, and many."""
    kinds = [kind for kind in ("same", "moving") if bench.wanted(f"warm, {case.name}, {kind}")]
    for path in case.held() if kinds else []:
        for target in bench.proxies():
            target.fetch(path)
    for kind in kinds:
        name = f"warm, {case.name}, {kind}"
        looked = look_at(bench, case.same() if kind == "same" else case.beside())
        with AllHits(bench.promfront, name):
            plain, packed = ask_in_turn(bench, case.same() if kind == "same" else case.moving(), looked)
        bench.add(name, "ms of CPU", {**plain, "prometheus": looked.direct},
                  [Goal(plain["promfront"] / plain["nginx"], 2, "x nginx")], f"{looked.size / 1000:.0f} kB")
        bench.add(f"{name}, gzip", "ms of CPU", packed,
                  [Goal(packed["promfront"] / plain["promfront"], 1, "x identity"),
                   Goal(looked.packed / looked.by_gzip, 1, "x the size of gzip -1")], f"{looked.packed / 1000:.0f} kB")


def ask_in_turn(bench, paths, looked):
    """Milliseconds of CPU an answer, by who answers: plain, and packed."""
    is_large = looked.size > load.LARGE
    rounds = load.ROUNDS_OF_LARGE if is_large else load.ROUNDS
    seconds = bench.args.seconds / rounds

    def job(target, asked, encoding):
        def run(number):
            begin = number * len(asked) // rounds
            if is_large:
                return load.one_by_one(target, asked, seconds, encoding, begin) * 1000
            return load.wrk(target, asked, seconds, bench.work, encoding=encoding, begin=begin)["cpu"] * 1000
        return run

    who = [(bench.promfront, paths), (bench.nginx, looked.files), *((one, paths) for one in bench.extra)]
    jobs = {(encoding, target.name): job(target, asked, encoding)
            for encoding in ("identity", "gzip") for target, asked in who}
    with on_one_core([target.pid for target, _ in who]):
        costs = load.in_turn(jobs, rounds)
    return ({target.name: costs[encoding, target.name] for target, _ in who} for encoding in ("identity", "gzip"))
