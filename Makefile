# What a person runs. Everything happens inside .venv/; nothing is installed elsewhere.

PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
STAMP := .venv/.synced

export PATH := $(CURDIR)/$(BIN):$(PATH)
test-played test-node test-chart e2e cluster-up cluster-down cluster-shell: export PYTHONPATH := $(CURDIR)/tests

# How many runs a fault meets: fifty where nothing else is asked for.
test-chart: export RUNS ?= 12

.DEFAULT_GOAL := help
SEEDS ?= 3
SEED ?= 1
COUNT ?= 200

# Many tests start servers and wait for them: one that failed on a busy machine has a second try,
# by itself and for everybody to see. What fails twice fails.
twice = pytest -q $(1) || { echo "… those that failed, once more"; pytest -q $(1) --last-failed; }

# What cannot be had here, the tests say as the reason for which they are skipped; in CI they fail.
# A node that was up stays up.
on_a_node = @python -m cluster.bed status >/dev/null 2>&1; was_up=$$?; python -m cluster.bed up; \
	{ $(call twice,$(1)); }; ended=$$?; test $$was_up = 0 || python -m cluster.bed down; exit $$ended

.PHONY: help setup demo test test-played test-node test-chart fuzz faults e2e bench bench-cluster bench-finished real-models lint fmt lock sbom crds cluster-up cluster-down cluster-shell clean

help:  ## Say what there is
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(STAMP)  ## Make .venv with the locked dependencies (instant when nothing changed)

# Keyed by what decides the environment. The stamp is touched last: a broken set-up is repeated.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Plue needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1)"; \
	  echo "  try: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/pip || { echo "… making .venv with $$($(PYTHON) -V)"; \
	  $(PYTHON) -m venv .venv || { \
	    echo "error: $(PYTHON) cannot make virtual environments"; \
	    echo "  try: apt-get install python3-venv"; exit 2; }; }
	@test "$$($(BIN)/uv --version 2>/dev/null | cut -d' ' -f2)" = $(UV_VERSION) || { \
	  echo "… installing uv $(UV_VERSION)"; \
	  $(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }
	@echo "… installing the locked dependencies, about 200 MB the first time"
	@$(BIN)/uv pip sync --python $(BIN)/python --require-hashes requirements.lock
	@echo "… installing Plue itself"
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps -e .
	@touch $@

demo: setup  ## Run this repository's own checks as a workflow, live
	@plue workflow run checks

test: setup lint  ## Lint, types, layers, all tests, and rounds of faults
	mypy
	mypy --config-file tests/mypy.ini
	$(call twice,)
	PYTHONPATH=tests python -m faults.main --seeds $(SEEDS) --first $(SEED) --within 360
	@$(MAKE) --no-print-directory test-played
	@$(MAKE) --no-print-directory test-node

test-played: setup  ## Test with a real Kubernetes API server; builds it the first time (about 10 minutes)
	-@python -m cluster.bed build --played
	$(call twice,-m played tests/cluster)

test-node: setup  ## Test the operator on a Kubernetes node with gVisor, of its own (needs root)
	$(call on_a_node,-m cluster tests/cluster)

test-chart: setup  ## Test the chart on such a node: install, confine, limit, upgrade, one fault, uninstall
	$(call on_a_node,-m "chart and not long" tests/cluster/chart)

faults: setup  ## Kill, cut and halt everything at random: SEEDS= rounds, from SEED= on
	@PYTHONPATH=tests python -m faults.main --seeds $(SEEDS) --first $(SEED)

lint: setup  ## Layers, ruff, format
	lint-imports --no-cache --no-logo
	ruff check .
	ruff format --check .

fmt: setup  ## Format, and fix what can be fixed
	ruff check --fix --exit-zero --quiet .
	ruff format .

e2e: setup  ## All tests with Kubernetes, every fault of a node too; builds it the first time (15 minutes)
	python -m cluster.bed up
	pytest -q -m played tests/cluster
	pytest -q -m chart tests/cluster/chart
	pytest -q -m cluster tests/cluster

cluster-up: setup  ## Start a Kubernetes node with gVisor, in namespaces of its own (needs root)
	@python -m cluster.bed up

cluster-down: setup  ## End that node; nothing of it stays
	@python -m cluster.bed down

cluster-shell: setup  ## Open a shell in that node's network
	@python -m cluster.bed enter

real-models: setup  ## Ask the real Messages API with ANTHROPIC_API_KEY; costs a few cents
	pytest -q -m real_api tests/models

fuzz: setup  ## Try mangled requests, frames and files; more of them with EXAMPLES=1000
	EXAMPLES=$(EXAMPLES) pytest -q -m fuzz

bench: setup  ## Measure against the goals; ONLY=NAME,… some of it, OPTIONS=… as `--help` says
	@PYTHONPATH=tests:operator:runner_image python -m bench $(ONLY) $(OPTIONS)

bench-cluster: setup  ## Measure applied runs on the node that is up; COUNT=200
	@PYTHONPATH=tests python -m cluster.bench $(COUNT)

bench-finished: setup  ## Measure an operator beside finished runs, without a node; FINISHED=10000 RUNS=50
	@PYTHONPATH=tests python -m cluster.finished $(or $(FINISHED),10000) $(or $(RUNS),50)

lock: setup  ## Resolve the dependencies of pyproject.toml anew into requirements.lock
	uv pip compile pyproject.toml --universal --extra local --extra kubernetes --group dev \
	  --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet -o requirements.lock
	uv pip compile runner_image/requirements.in --constraints requirements.lock --universal \
	  --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  --quiet -o runner_image/requirements.lock
	uv pip compile pyproject.toml --extra local --extra kubernetes --constraints requirements.lock \
	  --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --quiet -o server_image/requirements.lock

sbom: setup  ## Write what the images install to sbom/, as CycloneDX
	python server_image/sbom.py server_image/requirements.lock sbom/server.json
	python server_image/sbom.py runner_image/requirements.lock sbom/runner.json

crds: setup  ## Write crds/ and the chart's from operator/plue/resources
	python -m plue.resources crds
	python -m plue.resources helm/plue/crds
	python -m plue.resources --roles helm/plue/templates/roles.yaml

clean:  ## Remove the environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
