# Everything lives in $(VENV), made on first use from the versions pinned in .constraints.txt.
#   make run     the demo of config.toml.example, on the embedded exchange; Ctrl-C stops it
#   make test    every test, with coverage
#   make lint    ruff and mypy
#   make bench   what the daemon costs; make bench-peers: beside NautilusTrader
#   make sim     the whole daemon on a virtual clock, SEEDS of them; make soak: the long tests
# PYTHON chooses the interpreter (3.11 or later), VENV the folder.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
CONFIG ?= config.toml.example
SEEDS ?= 20
SOAK_SEEDS ?= 200
COVERAGE ?= 90

bin := $(VENV)/bin
pip := $(bin)/python -m pip --disable-pip-version-check install --quiet -c .constraints.txt
pinned := pyproject.toml .constraints.txt

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

.PHONY: help install run check test lint bench bench-peers soak sim clean

help:
	@sed -n 's/^#   //p' Makefile

install: $(VENV)/.installed

run: $(VENV)/.installed
	@exec $(bin)/python -c "$$foreground" $(bin)/zq-daemon run --config $(CONFIG)

check: $(VENV)/.installed
	$(bin)/zq-daemon check --config $(CONFIG)

test: $(VENV)/.installed-dev
	rm -f .coverage .coverage.*
	$(bin)/python -m pytest --cov --cov-report=term --cov-fail-under=$(COVERAGE)

lint: $(VENV)/.installed-dev
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy

bench: $(VENV)/.installed-dev
	$(bin)/python -m benchmarks

bench-peers: $(VENV)/.installed-dev
	$(bin)/python -m benchmarks.peers

soak: $(VENV)/.installed-dev
	ZQ_SIM_SEEDS=$(SOAK_SEEDS) $(bin)/python -m pytest tests/sim tests/e2e
	$(bin)/python -m benchmarks.soak

sim: $(VENV)/.installed-dev
	ZQ_SIM_SEEDS=$(SEEDS) $(bin)/python -m pytest tests/sim

clean:
	rm -rf $(VENV) .venv-peers build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*

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
