# make demo    the first comparison, end to end        make test   unit and smoke tests
# make setup   .venv with everything in it             make lint   style and types
#
# Each of them sets up .venv first if that is missing or out of date.
#   ACCEL=cpu|gpu   overrides what set-up finds            PYTHON=...   the interpreter .venv is made with
#   ARGS="..."      further arguments of cpt run or pytest

ACCEL ?= auto
ARGS ?=
BIN := .venv/bin

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && { echo $$python; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint fix lock clean

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

setup:
	@test -n "$(PYTHON)" || { echo "setup: needs Python 3.11, 3.12 or 3.13; none found. Install one or say PYTHON=..." >&2; exit 1; }
	@$(PYTHON) scripts/install.py --accelerator $(ACCEL)

demo: setup
	$(BIN)/cpt run recipes/quickstart.yaml $(ARGS)

test: setup
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Pins the versions that .venv holds; run it when the tests pass with new ones.
lock: setup
	$(BIN)/python scripts/lock.py cpu
	$(BIN)/python scripts/lock.py gpu

# Everything that can be made again, except runs/, which are results.
clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find cpt rewards scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
