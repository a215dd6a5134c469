# Two commands for a newcomer: `make demo` and `make test`. The rest are parts of them.

CARGO ?= cargo
TARGET ?= $(or $(CARGO_TARGET_DIR),target)

.PHONY: help demo test tools build lint bench

help:
	@echo "make demo    what promfront does to a dashboard, on this machine (ARGS=--once ends by itself)"
	@echo "make test    the whole test suite, from nothing"
	@echo "make bench   the benchmarks"
	@echo "make build   target/release/promfront"

demo: tools build
	python3 demo/demo.py --promfront $(TARGET)/release/promfront $(ARGS)

test: tools lint
	$(CARGO) test --locked

# Prometheus, from Debian's packages if it is not on the PATH.
tools:
	@python3 demo/tools.py

build:
	$(CARGO) build --release --locked

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- --deny warnings

bench:
	$(CARGO) bench --locked
