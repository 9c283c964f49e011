# One command runner for developers, CI and hooks. Every target installs what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What an installation depends on, in addition to the Python files, which it uses in place.
SOURCES := $(shell find rust -name '*.rs') Cargo.toml Cargo.lock rust/py/Cargo.toml rust/tokens/Cargo.toml pyproject.toml

.PHONY: help setup demo test test-quick test-exhaustive test-rust test-python test-oldest test-newest test-any-hf parity bench bench-rivals docs lint format wheel sdist clean
.DEFAULT_GOAL := help

help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# pip would compile one module at a time. A few packages contain files that are not valid Python; they are skipped.
define install
	$(BIN)/pip install --quiet --no-compile --editable '.$(1)'
	$(BIN)/python -m compileall -qq --workers 0 $(VENV)/lib || true
endef

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

# Only the package and its dependencies, so that the demo starts sooner; .installed adds the development tools.
$(VENV)/.package: $(BIN)/python $(SOURCES)
	@echo "Installing windrow and its dependencies into $(VENV): about 1.2 GB, a few minutes"
	$(call install,)
	@touch $@

$(VENV)/.installed: $(BIN)/python $(SOURCES)
	@echo "Installing windrow and the development tools into $(VENV): about 1.5 GB, a few minutes"
	$(call install,[dev])
	@touch $(VENV)/.package $(VENV)/.docs $@

$(VENV)/.docs: $(BIN)/python $(SOURCES)
	@echo "Installing windrow and MkDocs into $(VENV): about 1.3 GB, a few minutes"
	$(call install,[docs])
	@touch $(VENV)/.package $@

setup: $(VENV)/.installed ## Create the virtual environment and install the package with development tools

demo: $(VENV)/.package ## Train a tiny model, evaluate it, and print the tables
	$(BIN)/windrow demo

test: $(if $(ARGS),,test-rust) test-python ## Run all but the exhaustive tests, or a selection: make test ARGS=tests/test_plan.py

# The core, planning, tokens and datasets, and one model compared with recorded scores of the reference backend.
QUICK_TESTS := $(wildcard $(foreach name,admission docstrings plan batch datasets transforms scoring.py \
  tokens_classes tokens_quick tokens_rebuilt tokens_source,tests/test_$(name)*)) \
  tests/test_harness.py::test_recorded_results_of_the_reference_backend

test-quick: setup test-rust ## Run the fast tests, before each commit
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m 'not exhaustive' $(QUICK_TESTS)

test-rust:
	cargo test --workspace --exclude windrow-py --quiet

test-python: setup
	$(BIN)/python -m pytest $(or $(ARGS),--numprocesses 2 --dist worksteal -m 'not exhaustive')

test-exhaustive: setup ## Run the slow tests that 'make test' skips: every model, mesh and real task
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m exhaustive

# The lowest versions that pyproject.toml allows, and the latest ones.
RESOLUTION_oldest := lowest-direct
RESOLUTION_newest := highest
TESTERS := 'pytest>=9' 'pytest-xdist>=3.8' 'hypothesis>=6.140' 'tiktoken>=0.12' 'sentencepiece>=0.2.1' 'pillow>=11'
MAIN_TESTS := $(wildcard $(foreach name,tokens plan scoring generation chunks models,tests/test_$(name)*.py))

test-oldest: ## Run the main tests with the oldest supported dependencies (needs uv)
test-newest: ## Run the main tests with the newest dependencies (needs uv)
test-oldest test-newest: test-%:
	uv venv --quiet --clear --python $(PYTHON) $(VENV)-$*
	uv pip install --quiet --python $(VENV)-$*/bin/python --resolution $(RESOLUTION_$*) '.[examples]' $(TESTERS)
	$(VENV)-$*/bin/python -m pytest $(or $(ARGS),--numprocesses 2 --dist loadfile $(MAIN_TESTS))

test-any-hf: ## Run the test of examples/any_hf.py with torch and torchax, in a separate environment (needs uv)
	uv venv --quiet --clear --python $(PYTHON) $(VENV)-any-hf
	uv pip install --quiet --python $(VENV)-any-hf/bin/python . -r examples/any_hf_requirements.txt $(TESTERS)
	$(VENV)-any-hf/bin/python -m pytest $(or $(ARGS),tests/test_any_hf.py)

PARITY := $(VENV)-parity

$(PARITY)/.installed:
	$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/pip install 'lm_eval[hf]==0.4.13'
	@touch $@

parity: setup $(PARITY)/.installed ## Record lm_eval's own results (with torch, in a separate environment) and compare
	$(PARITY)/bin/python tests/recorded/record.py
	$(PARITY)/bin/python tests/recorded/families.py
	$(PARITY)/bin/python tests/recorded/likelihoods.py
	$(BIN)/python -m pytest tests/test_recorded.py tests/test_models_recorded.py tests/test_models_likelihoods.py

bench: setup ## Run all benchmarks
	cargo bench
	for bench in benches/bench_*.py; do $(BIN)/python $$bench || exit 1; done

bench-rivals: setup $(PARITY)/.installed ## Benchmark lm_eval's own backend and windrow in turns
	$(BIN)/python benches/bench_rivals.py

docs: $(VENV)/.docs ## Build the guide into site/ (warnings are errors)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo site/index.html

# The stub check cannot use mypy's cache, so it runs only if the stub, the compiled module or mypy may have changed.
$(VENV)/.stub: $(SOURCES) python/windrow/_rust.pyi | setup
	$(BIN)/python -m mypy.stubtest windrow._rust --concise
	@touch $@

lint: setup $(VENV)/.stub ## Check style, types, the stub and import rules
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --workspace --all-targets --quiet -- --deny warnings
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Format the sources
	cargo fmt --all
	cargo fmt --manifest-path fuzz/Cargo.toml
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

wheel: $(BIN)/python ## Build the wheel into dist/
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	@ls -l dist/*.whl

sdist: setup ## Build the source distribution into dist/
	$(BIN)/maturin sdist --out dist
	@ls -l dist/*.tar.gz

clean: ## Remove environments and build outputs
	rm -rf $(VENV) $(VENV)-parity $(VENV)-oldest $(VENV)-newest $(VENV)-any-hf dist site target
