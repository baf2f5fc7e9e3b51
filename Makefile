# `make run` starts everything for a look, `make test` tests everything. Both need Python 3.11+, make and git, no more.

# The first Python that is new enough. Tried by running it: a version manager's shim may exist and yet not run.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
HOST ?= 127.0.0.1
PORT ?= 8000

.DEFAULT_GOAL := help
.PHONY: help setup run servers check format test test-unit test-long coverage lock build clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.complete ## .venv with the locked packages and the project

.venv/.complete: requirements.lock pyproject.toml scripts/setup
	@test -n "$(PYTHON)" || { echo "setup: no Python 3.11 or newer found; on Debian: apt-get install python3" >&2; exit 1; }
	@$(PYTHON) scripts/setup

run: setup ## the service with demo traffic on http://127.0.0.1:8000 (HOST=, PORT=)
	@$(BIN)/tracker demo --host $(HOST) --port $(PORT)

servers: ## the real servers that tests use: installs them as root on Debian, else lists what is missing
	@scripts/servers

check: setup ## ruff, mypy, import rules, docs
	@scripts/check

format: setup ## put the code into the one format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

test: setup servers ## all tests, against real servers
	@scripts/test

test-unit: setup ## what needs no server, in seconds
	@$(BIN)/python -m pytest tests/unit tests/component tests/properties

test-long: setup servers ## drills, outages of minutes, ten thousand topics: an hour or more
	@$(BIN)/python scripts/test-long

coverage: setup ## branch coverage of the tests that need no server
	@$(BIN)/python -m pytest tests/unit tests/component tests/properties --cov --cov-report=term

lock: ## pin all dependencies of all extras, with hashes, for every platform
	@test -x $(BIN)/uv || $(MAKE) setup  # not always: what the old lock cannot give may be why a new one is made
	@$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" --quiet --output-file requirements.lock

build: setup ## the wheel and the source distribution, into dist/
	@$(BIN)/python -m build --no-isolation

clean: ## remove .venv, caches and what was built
	@rm -rf .venv build dist .coverage .coverage.* htmlcov .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
