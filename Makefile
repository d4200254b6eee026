# make demo · make test · make bench · make setup          (README.md says what each is for)
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHE := .cache/govterm
UV_VERSION := 0.13.9
export GOVTERM_CACHE := $(CURDIR)/$(CACHE)

.PHONY: help setup demo test slow fuzz lint unit bench evaluate docs system-packages clean

help:
	@echo "make demo    serve one citizen on the rig, start to end"
	@echo "make test    lint and all tests, some on a board booted with systemd (root; installs Debian packages)"
	@echo "make slow    the long forms of the tests (root)"
	@echo "make fuzz    the codecs fuzzed, FUZZ_SECONDS (an hour) each; make slow has it too"
	@echo "make bench   the benchmarks"
	@echo "make evaluate  the document scan's figures, and the face check's error on the pictures in GOVTERM_FACE_DATA"
	@echo "make docs    regenerate the generated pages of docs/"
	@echo "make setup   the virtual environment and the models; the others call it"

setup: $(VENV)/.ready $(CACHE)/.ready

$(VENV)/.ready: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "govterm needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) \
	  || { echo "python3 -m venv failed: install your distribution's python3-venv, or set PYTHON" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --quiet --frozen --all-extras --inexact --compile-bytecode
	@touch $@

$(CACHE)/.ready: $(VENV)/.ready vision/manifest.toml sim/assets.py
	$(BIN)/govterm models prepare --directory $(CACHE)/models
	$(BIN)/govterm rig prepare --directory $(CACHE)/assets
	@touch $@

demo: setup
	$(BIN)/govterm demo --once

test: system-packages lint unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup system-packages
	$(BIN)/pytest -m "not slow" -n 2 --dist loadfile

slow: setup system-packages
	$(BIN)/pytest -m slow

fuzz: setup
	$(BIN)/pytest tests/fuzz -m slow -s

bench: setup
	$(BIN)/pytest benchmarks

# Pictures of people, never part of the repository: figures only (docs/biometrics.md).
GOVTERM_FACE_DATA ?= $(wildcard ../shared/faces)
SCAN_SEED ?= 5

evaluate: setup
	$(BIN)/python -m sim.scan_sweep $(CACHE)/assets/wqy-microhei.ttc --photographs 600 --seed $(SCAN_SEED)
	@$(BIN)/python benchmarks/evaluate.py --data "$(GOVTERM_FACE_DATA)" --models $(CACHE)/models

docs: setup
	$(BIN)/python -m runtime.reference > docs/configuration.md
	$(BIN)/python -m runtime.api.reference > docs/api.md

# The real parts that the tests run against, each by the command it brings.
system-packages: setup
	@$(BIN)/python tests/system_packages.py

clean:
	rm -rf $(VENV) $(CACHE)
