.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := libs/common apps/resize apps/detect apps/filter apps/orchestrator apps/cli
STAMP := .venv/.imageflow-setup

.PHONY: help setup
help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## Make .venv with everything in it; a no-op when nothing changed

$(STAMP): constraints.txt requirements-dev.txt $(addsuffix /pyproject.toml,$(PACKAGES))
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt \
	  $(foreach package,$(PACKAGES),-e ./$(package)) --config-settings editable_mode=compat
	touch $@

.PHONY: protos
protos: setup ## Regenerate libs/common/imageflow from protos/
	$(BIN)/python protos/generate.py

.PHONY: lint format
lint: setup ## Check style, types, protos, imports, and that generated code is up to date
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	tools/check-protos

format: setup ## Format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: test coverage demo up backends backends-down bench eval prove docs manifests
test: setup ## Install the servers that tests need, and run every test; skips say why
	$(BIN)/python -m backends install
	$(BIN)/pytest

coverage: setup ## Run the tests of the packages and report which lines they miss
	$(BIN)/pytest --cov --cov-report=term-missing:skip-covered --ignore=apps/orchestrator/tests/model libs apps

demo: setup ## Run resize → detect → filter on a real photograph; pictures go to demo-output/
	$(BIN)/imageflow demo --output demo-output

up: setup ## Start every service and the gateway on :8080
	$(BIN)/imageflow up

backends: setup ## Start the real servers on loopback; prints what to export: eval "$$(make -s backends)"
	@$(BIN)/python -m backends up

backends-down: setup ## End what `make backends` started
	@$(BIN)/python -m backends down

docs: setup ## Write the generated parts of the documentation, and the dashboards
	$(BIN)/python tools/docs.py
	$(BIN)/python tools/dashboards.py

bench: setup ## Measure pipelines, the engine, detect, Triton, store and broker, each beside a bare way; results: benchmarks/results/
	$(BIN)/python -m benchmarks.pipelines
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.detect
	$(BIN)/python -m benchmarks.triton
	$(BIN)/python -m benchmarks.store
	$(BIN)/python -m benchmarks.bus

.PHONY: images
images: setup ## Build the image of each service and of the gateway (docker, else buildah)
	$(BIN)/python tools/images.py $(if $(STAND_INS),--stand-ins)

manifests: setup ## Write what k8s/ has from elsewhere in the tree, and render its overlays to build/manifests/
	$(BIN)/python tools/manifests.py

eval: setup ## Measure how good the demo's model is; the report is models/coins/EVALUATION.md
	$(BIN)/python tools/evaluate.py

prove: setup ## Prove it at length, two hours: kills, ten thousand executions, a soak, alerts; reports go to docs/proof/
	IMAGEFLOW_PROVE=1 IMAGEFLOW_PROVE_SHARE=$(SHARE) $(BIN)/pytest apps/orchestrator/tests/model
	IMAGEFLOW_PROVE=1 IMAGEFLOW_PROVE_SHARE=$(SHARE) $(BIN)/pytest tests/crash
	IMAGEFLOW_PROVE=1 $(BIN)/pytest tests/e2e/s3/test_large.py
	IMAGEFLOW_PROVE=1 $(BIN)/pytest libs/common/tests/test_store_s3.py -k many_keys --timeout 3600
	IMAGEFLOW_PROVE=1 $(BIN)/pytest --timeout 3600 tests/observe
	IMAGEFLOW_PROVE=1 $(BIN)/pytest tests/images tests/kubernetes

clean: ## Remove what builds and runs left behind
	rm -rf .venv demo-output imageflow-data .coverage* htmlcov .pytest_cache .mypy_cache .ruff_cache
