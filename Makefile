PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash

.PHONY: docs help setup quickstart test test-all tests all-tests checks lint types coverage configs results sweeps clean

help:
	@echo "make quickstart   set up .venv, train Deep SAD on bundled digits, show the results"
	@echo "make test         set up .venv, then lint, type check and test"
	@echo "make test-all     the same, with the tests that are marked slow"
	@echo "make lint types   one of them alone; lint checks the direction of imports too"
	@echo "make coverage     the tests again, with the lines and branches that none of them runs"
	@echo "make configs      write configs/ and sweeps/ from configs/parts/"
	@echo "make results      write docs/results/*.md and pictures from the rows beside them"
	@echo "make docs         build the site from docs/ into site/"
	@echo "make sweeps       check sweeps/ by W&B's own schema and search"

$(VENV)/.installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 to 3.13 is needed; name it: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

setup: $(VENV)/.installed

quickstart: setup
	$(BIN)/python -m adlightning fit --config configs/deep_sad/digits.yaml --data.normal_class=3

# One process a core, with one thread each; mypy, which is one process, runs beside them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

# The site, into site/; a broken link is an error.
docs: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

test: setup
	$(MAKE) --no-print-directory --jobs 2 checks tests

# Each method, configuration and rank of what `make test` tries in part.
test-all: setup
	$(MAKE) --no-print-directory --jobs 2 checks all-tests

checks:
	$(MAKE) --no-print-directory lint
	$(MAKE) --no-print-directory types

tests: setup
	$(PYTEST)

all-tests: setup
	$(PYTEST) -m "slow or not slow"

lint: setup
	$(BIN)/ruff check adlightning tests benchmarks
	$(BIN)/ruff format --check adlightning tests benchmarks
	$(BIN)/lint-imports

types: setup
	$(BIN)/mypy

# Apart from `make test`, since counting lines makes it slower; what it demands is in pyproject.toml.
# One test leaves no room for the counts either.
FULL_DISK := tests/test_faults.py::test_a_full_disk_leaves_the_epoch_before

coverage: setup
	rm -f .coverage .coverage.*
	$(PYTEST) --cov --cov-report=term --deselect $(FULL_DISK)

configs: setup
	$(BIN)/python benchmarks/make_configs.py

# A report overwrites nothing: the old page and its pictures go first. The pages of methods and papers show the rows too.
results: setup
	for rows in docs/results/*.csv; do \
		page=$${rows%.csv}; \
		rm -f $$page.md $${page}_*.png; \
		$(BIN)/python -m adlightning report $$rows --format markdown --out $$page.md || exit 1; \
	done
	$(BIN)/python benchmarks/method_pages.py
	$(BIN)/python benchmarks/paper_pages.py

# W&B's package for this pins numpy below 2: an environment of its own.
.venv-sweeps/.installed:
	$(PYTHON) -m venv .venv-sweeps
	.venv-sweeps/bin/python -m pip install --quiet --disable-pip-version-check sweeps==0.3.0
	touch $@

sweeps: .venv-sweeps/.installed
	.venv-sweeps/bin/python -W ignore benchmarks/validate_sweeps.py sweeps/*.yaml

clean:
	rm -rf $(VENV) .venv-sweeps .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
