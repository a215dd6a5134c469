#!/usr/bin/env python3
"""Gets what is run besides Rust: for the demo Prometheus and promtool, for the tests caches and what stands around them too.

Need: a fresh machine has only Rust, git, python3, make and apt. Rule: nothing is done if everything is there, and the demo
gets nothing that only the tests need.
"""

import sys

sys.dont_write_bytecode = True

from children import FOR_DEMO, FOR_TESTS, ensure

if sys.argv[1:] not in (["demo"], ["tests"]):
    sys.exit("usage: tools.py demo|tests")
tools = FOR_DEMO if sys.argv[1] == "demo" else FOR_TESTS
ensure(tools, lambda text: print(f"tools: {text}", file=sys.stderr, flush=True))
