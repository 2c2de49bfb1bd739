# Two commands do everything, set-up included: `make demo` shows the proof, `make test` runs every check and test.

PYTHON ?= python3
BIN := .venv/bin
# What `make scenarios` runs: names, files, folders, or all.
SCENARIOS ?= upstream-flap upstream-flap-plain

# Plugins of other people's pytest runs. In a folder of their own, from which tests take one at a time: pytest loads each
# that it finds.
PLUGINS := pytest-randomly pytest-repeat pytest-rerunfailures pytest-retry

.PHONY: demo test lint types unit scenarios clean

demo: .venv/ready
	$(BIN)/pytest --scenario=upstream-flap

test: lint types unit scenarios

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

# Most of a test's time is waiting, for a fault or for a peer: three at a time leave two cores room to answer in time. Each
# process begins with a run of neighbours, for fixtures of modules; who is done takes over from others, not by the file.
unit: .venv/ready
	$(BIN)/pytest --numprocesses 3 --dist worksteal

scenarios: .venv/ready
	$(BIN)/pytest $(SCENARIOS:%=--scenario=%)

# The versions in constraints.txt are those that CI tests.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps --upgrade \
		--target .venv/pytest-plugins $(PLUGINS)
	touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
