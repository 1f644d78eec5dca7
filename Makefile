# make demo    train a method on the built-in data and print its table
# make test    install with the test extra and run the tests
# make lint    ruff and mypy
# PYTHON=python3.12 make ...   another interpreter for .venv (3.11 or newer)

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint clean

demo: .venv/demo.stamp
	$(BIN)/bench run --method cmml --protocol all-subsets --jobs 2

# A process of tests per core, each with one thread.
test: export OMP_NUM_THREADS = 1
test: .venv/test.stamp
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv

# Each stamp is as old as its last install: a change of pyproject.toml installs again.
.venv/demo.stamp: pyproject.toml | $(BIN)/python
	$(INSTALL) -e .
	touch $@

.venv/test.stamp: pyproject.toml | $(BIN)/python
	$(INSTALL) -e '.[test,formats,slurm]'
	touch $@ .venv/demo.stamp

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11; name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
