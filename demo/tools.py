#!/usr/bin/env python3
"""Gets what the tests and the demo run besides Rust: Prometheus and promtool.

Need: a fresh machine has only Rust, git, python3, make and apt. Rule: nothing is done if everything is there.
"""

import sys

sys.dont_write_bytecode = True

from children import ensure_prometheus

ensure_prometheus(lambda text: print(f"tools: {text}", file=sys.stderr, flush=True))
