# Two commands for a newcomer: `make demo` and `make test`. The rest are parts of them.

CARGO ?= cargo
TARGET ?= $(or $(CARGO_TARGET_DIR),target)

.PHONY: help demo test tools demo-tools build lint bench stages

help:
	@echo "make demo    what promfront does to a dashboard, on this machine (ARGS=--once ends by itself)"
	@echo "make test    the whole test suite, from nothing"
	@echo "make bench   what an answer costs, beside nginx and Prometheus (ARGS=--help; EXTRA=name=url=pid for another proxy)"
	@echo "make stages  what each stage costs on one core"
	@echo "make build   target/release/promfront"

demo: demo-tools build
	python3 demo/demo.py --promfront $(TARGET)/release/promfront $(ARGS)

test: tools lint
	$(CARGO) test --locked

# Prometheus, Redis, memcached and so on, from Debian's packages if they are not there; for the demo only Prometheus.
tools:
	@python3 demo/tools.py tests

demo-tools:
	@python3 demo/tools.py demo

build:
	$(CARGO) build --release --locked

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- --deny warnings

bench: build
	python3 benches/harness.py --promfront $(TARGET)/release/promfront --data $(TARGET)/bench-data $(addprefix --extra ,$(EXTRA)) $(ARGS)

stages:
	$(CARGO) bench --locked
