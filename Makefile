# Two commands do everything, set-up included: `make demo` shows the proof, `make test` runs every check and test; but for
# those of real programs, which `make real` installs and runs.

PYTHON ?= python3
BIN := .venv/bin
# What `make scenarios` runs: names, files, folders, or all.
SCENARIOS ?= upstream-flap upstream-flap-plain
# How many tests `make unit` runs at a time.
PROCESSES ?= 6
# Hundreds of processes import the same modules: without its cache, Python compiles them for each.
export PYTHONDONTWRITEBYTECODE :=

# Plugins of other people's pytest runs. In a folder of their own, from which tests take one at a time: pytest loads each
# that it finds.
PLUGINS := pytest-randomly pytest-repeat pytest-rerunfailures pytest-retry

# For `make real`: fail if more than so many of its programs cannot be installed.
REAL_MISSING ?=

.PHONY: demo test quick lint types unit scenarios real clean

demo: .venv/ready
	$(BIN)/pytest --scenario=upstream-flap

test: lint types unit scenarios

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

# Most of a test's time is waiting, for a fault or for a peer, so that several at a time keep two cores busy. Each process
# begins with a run of neighbours, for fixtures of modules; one that is done takes over from others, not by the file.
unit: .venv/ready
	$(BIN)/pytest --numprocesses $(PROCESSES) --dist worksteal

# The tests that use no network and start no process (tests/pure.py), in seconds.
quick: .venv/ready
	HYPOTHESIS_PROFILE=quick $(BIN)/pytest -m pure --numprocesses 2 --dist worksteal

scenarios: .venv/ready
	$(BIN)/pytest $(SCENARIOS:%=--scenario=%)

# Real browsers, brokers and client libraries through the proxy. They are installed once, into the user's cache.
real: .venv/ready
	$(BIN)/python -m tests.real.install $(REAL_MISSING:%=--at-most %)
	$(BIN)/pytest tests/real -m real --numprocesses 4 --dist worksteal

# The versions in constraints.txt are those that CI tests.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps --upgrade \
		--target .venv/pytest-plugins $(PLUGINS)
	touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
