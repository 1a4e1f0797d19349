# Everything lives in $(VENV), made on first use from the versions pinned in .constraints.txt.
#   make run     the demo of config.toml.example, on the embedded exchange; Ctrl-C stops it
#   make test    every test, with coverage; those that do not mind company on all cores at once
#   make lint    ruff and mypy
#   make bench   what the daemon costs; make bench-peers: beside NautilusTrader
#   make sim     the whole daemon on a virtual clock, SEEDS of them; make mutants: wrong ones
#   make soak    the long tests
# PYTHON chooses the interpreter (3.11 or later), VENV the folder.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
CONFIG ?= config.toml.example
SEEDS ?= 100
MOST_SEEDS ?= 200
SOAK_SEEDS ?= 200
BESIDE_S ?= 120
KILLS ?= 200
COVERAGE ?= 90

bin := $(VENV)/bin
pip := $(bin)/python -m pip --disable-pip-version-check install --quiet -c .constraints.txt
pinned := pyproject.toml .constraints.txt

# Tests that wait for real time, processes and sockets, and those that occupy every core themselves,
# have the machine to themselves, one after the other. All others only compute: they run on all cores,
# each file of them in one process and in its order. Coverage would double what the longest of them
# take, and they reach next to nothing that the rest does not. Each test is in one of three runs,
# whatever is added: two of them are told by what they leave out.
alone := tests/e2e tests/systemd tests/venue_sdk tests/unit/test_benchmarks_smoke.py \
    tests/sim/test_seeds.py tests/sim/test_mutants.py
unmeasured := tests/sim tests/property
pytest := $(bin)/python -m pytest
on_all_cores := -n auto --dist loadfile --no-loadscope-reorder

# On Ctrl-C make itself would end as interrupted, whatever the daemon's exit code. So on a terminal
# the daemon alone sees the key: it becomes the foreground process group. The parent in between hands
# the terminal back afterwards, and passes on a SIGTERM; a closed terminal (SIGHUP) stops the demo
# too, instead of leaving it behind. Ctrl-Z is off, as nobody could resume it.
define foreground
import os, signal, sys
if not (os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()):
    os.execv(sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
signal.signal(signal.SIGTSTP, signal.SIG_IGN)
daemon = os.fork()
if not daemon:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpgrp())
    os.execv(sys.argv[1], sys.argv[1:])
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda *_: os.kill(daemon, signal.SIGTERM))
code = os.waitstatus_to_exitcode(os.waitpid(daemon, 0)[1])
try:
    os.tcsetpgrp(0, os.getpgrp())
except OSError:
    pass  # the terminal is gone
sys.exit(code if code >= 0 else 128 - code)
endef
export foreground

.PHONY: help install run check test lint bench bench-peers soak sim mutants clean

help:
	@sed -n 's/^#   //p' Makefile

install: $(VENV)/.installed

run: $(VENV)/.installed
	@exec $(bin)/python -c "$$foreground" $(bin)/zq-daemon run --config $(CONFIG)

check: $(VENV)/.installed
	$(bin)/zq-daemon check --config $(CONFIG)

test: $(VENV)/.installed-dev
	rm -f .coverage .coverage.*
	trap 'exit 130' INT; failed=; \
	$(pytest) $(on_all_cores) $(unmeasured) $(alone:%=--ignore=%) || failed+=' computing'; \
	$(pytest) $(on_all_cores) $(unmeasured:%=--ignore=%) $(alone:%=--ignore=%) \
	    --cov --cov-report= || failed+=' quick'; \
	$(pytest) $(alone) --cov --cov-append --cov-report=term --cov-fail-under=$(COVERAGE) \
	    || failed+=' alone'; \
	[[ -z $$failed ]] || { echo "failed runs:$$failed" >&2; exit 1; }

lint: $(VENV)/.installed-dev
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy

bench: $(VENV)/.installed-dev
	$(bin)/python -m benchmarks

bench-peers: $(VENV)/.installed-dev
	$(bin)/python -m benchmarks.peers

soak: $(VENV)/.installed-dev
	ZQ_SIM_SEEDS=$(SOAK_SEEDS) ZQ_BESIDE_S=$(BESIDE_S) ZQ_KILLS=$(KILLS) \
	    $(bin)/python -m pytest tests/sim tests/e2e tests/venue_sdk/test_beside.py
	$(bin)/python -m benchmarks.soak

sim: $(VENV)/.installed-dev
	$(bin)/python -m tests.simulation --seeds $(SEEDS) --coverage

mutants: $(VENV)/.installed-dev
	$(bin)/python -m tests.simulation --mutants $(MOST_SEEDS)

clean:
	rm -rf $(VENV) .venv-peers build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .sim .coverage*

# The editable build takes its setuptools from the same constraints: nothing here is unpinned.
$(VENV)/.installed: $(pinned) | $(VENV)/bin/python
	PIP_CONSTRAINT=.constraints.txt $(pip) -e .
	touch $@

$(VENV)/.installed-dev: $(pinned) $(VENV)/.installed
	PIP_CONSTRAINT=.constraints.txt $(pip) -e '.[dev]'
	touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo 'make: $(PYTHON) is missing or older than 3.11; run: make PYTHON=python3.12 ...' >&2; \
	    exit 1; }
	$(PYTHON) -m venv $(VENV)
