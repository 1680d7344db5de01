# Targets for a fresh machine: only Python 3.11+, pip and make are needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# torch's CUDA libraries are gigabytes: on a poor connection pip's own number of attempts to go on with a download is too small.
PIP := $(BIN)/python -m pip install --quiet --retries 10 --resume-retries 50

.DEFAULT_GOAL := help
.PHONY: help install demo test slow lint types format docs wheel clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "vidssl needs Python 3.11 or newer, but $(PYTHON) is %d.%d; try: make PYTHON=python3.12 ..." % v[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(PIP) --constraint constraints.txt --editable . --group dev
	@touch $(STAMP)

install: $(STAMP)  ## make .venv and install the package with its development tools

demo: $(STAMP)  ## render videos, pretrain on them and evaluate, in a few minutes, without network or weights
	$(BIN)/vidssl demo

# One thread for each test process: two processes of two threads on two cores take half as long again.
test: $(STAMP)  ## run the test suite (without the slow tests)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not slow"

slow: $(STAMP)  ## run the slow tests
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)  ## check style, and that every import goes down
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)  ## check types
	$(BIN)/mypy

format: $(STAMP)  ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)  ## build the documentation into site/; a broken link or anchor is an error
	$(PIP) --constraint constraints.txt --group docs
	$(BIN)/python -m mkdocs build --strict

wheel: $(STAMP)  ## build the wheel and the sdist into dist/
	$(BIN)/python -m build

clean:  ## remove what the targets made
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache
