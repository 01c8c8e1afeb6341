# The two commands to know: make run, make test. `make help` lists all.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
ARGS ?=
# Where `make cluster-up` leaves its kubeconfig; E2E_KUBECONFIG names another cluster for the end-to-end tests.
CLUSTER := tests/cluster

.PHONY: help run test check unit integration faults mutants e2e bench gpu-test gpu-bench cluster-up cluster-down format lock clean

help: ## list the commands
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: $(VENV)/.ready ## set up, learn the digits through the buffer, leave the page running (ARGS=--once ends by itself)
	@$(VENV)/bin/xbuf demo $(ARGS)

test: ## set up and pass every test, the end-to-end ones on a kind cluster included
	@scripts/test

check: $(VENV)/.ready ## seconds: format, lint, types, layers, unit and property tests
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo | tail -n 3
	@$(PYTHON) -m pytest -q tests/unit tests/property

unit: $(VENV)/.ready ## unit and property tests
	@$(PYTHON) -m pytest -q tests/unit tests/property

integration: $(VENV)/.ready ## tests against a real service process and a real browser
	@scripts/install-tools
	@$(PYTHON) -m pytest -q tests/integration

faults: $(VENV)/.ready ## long: every crash point and system call, real power loss, full and failing disks (as root)
	@scripts/install-tools
	@XBUF_TEST_HISTORIES=400 XBUF_TEST_SYSTEM_CALLS=30 XBUF_TEST_KILLS=25 XBUF_TEST_LOST_WRITES=20 XBUF_TEST_SIGNALS=5 XBUF_TEST_FULL_STEP=1 $(PYTHON) -m pytest -q --timeout 1800 tests/faults tests/property/test_store_crash_points.py tests/property/test_store_faults.py

mutants: $(VENV)/.ready ## known-bad variants of the product, each of which the tests must catch
	@scripts/install-tools
	@$(PYTHON) tests/faults/mutants.py $(ARGS)

e2e: $(VENV)/.ready ## end-to-end tests on the cluster (make cluster-up first, or E2E_KUBECONFIG)
	@source $(CLUSTER)/env.sh && $(PYTHON) -m pytest -q -m e2e tests/e2e

bench: $(VENV)/.ready ## every benchmark, beside limits and peers (ARGS="appends --rounds 3" for one, with its options)
	@$(PYTHON) -m benchmarks $(ARGS)

gpu-test: $(VENV)/.ready ## the search suite on a GPU (needs the wheel faiss-gpu in place of faiss-cpu)
	@XBUF_TEST_DEVICE=gpu $(PYTHON) -m pytest -q tests/gpu tests/unit/index tests/unit/core/test_filters.py tests/unit/core/test_recall.py tests/integration/test_many_switches.py

gpu-bench: $(VENV)/.ready ## searches per second on the GPU beside the CPU
	@$(PYTHON) -m benchmarks.gpu $(ARGS)

cluster-up: ## bring up a two-node kind cluster with the product's image and operator
	@$(CLUSTER)/up

cluster-down: ## remove the cluster and what was started for it
	@$(CLUSTER)/down

format: $(VENV)/.ready ## format the code
	@$(VENV)/bin/ruff format --quiet . && $(VENV)/bin/ruff check --quiet --fix .

lock: $(VENV)/.ready ## renew the pinned requirement files from pyproject.toml (needs uv)
	@scripts/lock

clean: ## remove the environment and caches of this checkout
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist

$(VENV)/.ready: requirements/dev.txt pyproject.toml scripts/make-venv
	@scripts/make-venv $(VENV)
