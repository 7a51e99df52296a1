# opsin: `make run` and `make test` do everything, setup included.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CONFIG ?= configs/cpu.toml
PY := .venv/bin/python

.PHONY: help setup run test unit check bench lock clean
help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/'

.venv/.main.stamp: infra/requirements/main.txt infra/requirements/main-overrides.txt pyproject.toml infra/setup.sh
	infra/setup.sh main
.venv/.dev.stamp: infra/requirements/dev.txt .venv/.main.stamp
	infra/setup.sh dev
.venv-quantize/.quantize.stamp: infra/requirements/quantize.txt infra/setup.sh
	infra/setup.sh quantize
.venv-serve/.serve.stamp: infra/requirements/serve.txt infra/requirements/serve-overrides.txt infra/setup.sh
	infra/setup.sh serve
.venv-peers/.peers.stamp: infra/requirements/peers.txt infra/setup.sh
	infra/setup.sh peers

setup: .venv/.main.stamp .venv-quantize/.quantize.stamp .venv-serve/.serve.stamp ## make the three environments (incremental)

run: setup ## the whole lifecycle with configs/cpu.toml (CONFIG=... for another)
	.venv/bin/opsin run $(CONFIG)

test: setup .venv/.dev.stamp ## all tests, a smoke lifecycle with a real vLLM included
	$(PY) -m pytest

unit: setup .venv/.dev.stamp ## only the quick tests
	$(PY) -m pytest -m "not e2e and not serve"

check: setup .venv/.dev.stamp ## what CI runs: lint, types, layers, tests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PY) -m pytest

bench: .venv/.dev.stamp .venv-peers/.peers.stamp ## all benchmarks against their peers, written to benchmarks/RESULTS.md
	$(PY) -m benchmarks

lock: ## lock the environments again
	UV=$(CURDIR)/infra/uv.sh bash infra/lock.sh

clean: ## remove artifacts, runs and data (not the environments)
	rm -rf .opsin runs data
