# Two commands do everything, set-up included: `make demo` shows the proof, `make test` runs every check and test.

PYTHON ?= python3
BIN := .venv/bin
SCENARIOS := upstream-flap upstream-flap-plain

.PHONY: demo test lint types unit scenarios clean

demo: .venv/ready
	$(BIN)/pytest --scenario=upstream-flap

test: lint types unit scenarios

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

unit: .venv/ready
	$(BIN)/pytest

scenarios: .venv/ready
	$(BIN)/pytest $(SCENARIOS:%=--scenario=%)

# The versions in constraints.txt are those that CI tests.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
