# Everything runs in .venv inside the clone; nothing outside it is changed. `make help` lists the targets.

PYTHON ?= python3
BIN := .venv/bin
SOURCES := setup.py $(shell find mdfeed -name '*.pyx' -o -name '*.pxd' -o -name '*.hpp' -o -name '*.h' -o -name '*.cpp')
ARGS ?=
JOBS := $(shell getconf _NPROCESSORS_ONLN)
# Editable, with the modules that .venv/built has compiled in place: pip would compile them all a second time.
INSTALL = MDFEED_BUILT=1 $(BIN)/pip install -q --no-build-isolation -e
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help dev demo test test-systemd promtool security-score soak chaos lint types format sanitize annotate bench bench-smoke clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# What pip cannot install is named before anything fails in the middle of a build.
.venv/base:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mdfeed needs Python 3.11 or later: make PYTHON=python3.12 ..." >&2; exit 1; }
	@command -v c++ >/dev/null || { echo "mdfeed needs a C++ compiler (Debian: apt-get install build-essential)" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sysconfig as s, sys; sys.exit(not os.path.exists(os.path.join(s.get_paths()["include"], "Python.h")))' || { echo "mdfeed needs Python's headers (Debian: apt-get install python3-dev)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "mdfeed needs Python's venv (Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/build-tools: .venv/base pyproject.toml
	$(BIN)/python -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]))' > .venv/build-requires
	$(BIN)/pip install -q -r .venv/build-requires
	@touch $@

.venv/built: .venv/build-tools $(SOURCES)
	$(BIN)/python setup.py -q build_clib build_ext --inplace --parallel $(JOBS)
	@touch $@

.venv/demo: .venv/built
	$(INSTALL) '.[demo]'
	@touch $@

.venv/test: .venv/built
	$(INSTALL) '.[test]'
	@touch $@

.venv/lint: .venv/test
	$(INSTALL) '.[test,lint]'
	@touch $@

dev: .venv/lint  ## .venv with an editable build and all tools

demo: .venv/demo  ## the whole thing on this machine: simulated exchange, daemon, Redis (ARGS="--seconds 20 --no-ui")
	$(BIN)/mdfeed demo $(ARGS)

test: .venv/test  ## the whole test suite (ARGS="-k book")
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'not systemd' $(ARGS)

test-systemd: .venv/test  ## installer and unit on a real systemd, in fresh namespaces (root; skips with a reason elsewhere)
	$(BIN)/python -m pytest -m systemd tests/systemd $(ARGS)

promtool:  ## check and test the Prometheus files
	cd deploy/prometheus && promtool check config prometheus.yml && promtool check rules rules.yml alerts.yml && promtool test rules alerts_test.yml

security-score:  ## what systemd says of the unit's exposure: 1.1 or lower, 0.9 with the loopback-only drop-in
	scripts/security-score.sh

soak: .venv/test  ## the fault matrix for 10 simulated hours in process, and an hour over sockets
	$(BIN)/python -m tests.faults.soak --hours 10 --lines both
	$(BIN)/python -m tests.faults.sockets --seconds 3600 --transport both --lines both

chaos: .venv/test  ## kill -9 of Redis and of the daemon, a hundred times each
	$(BIN)/python -m tests.faults.chaos --times 100 --transport both

lint: .venv/lint types  ## ruff, cython-lint, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(BIN):$$PATH" cython-lint mdfeed

types: .venv/lint  ## mypy over the Python, stubtest over the compiled modules
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_stubs.py

format: .venv/lint  ## ruff format and fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sanitize: .venv/test  ## fuzz and unit tests under AddressSanitizer and UBSan, in build/sanitize
	scripts/sanitize.sh $(ARGS)

annotate: .venv/build-tools  ## Cython's annotated HTML under build/annotate
	scripts/annotate.sh

bench: .venv/test  ## all benchmarks, each beside its plain-Python twin
	$(BIN)/python -m pytest bench --benchmark-only $(ARGS)
	$(BIN)/python -m bench.end_to_end
	$(BIN)/python -m bench.http_load

bench-smoke: .venv/test  ## the benchmarks, short: that they run and that both sides say the same
	$(BIN)/python -m pytest bench --benchmark-disable -q
	$(BIN)/python -m bench.end_to_end --smoke
	$(BIN)/python -m bench.http_load --smoke

clean:  ## remove everything that was built
	rm -rf .venv build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find mdfeed -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
