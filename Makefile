# Two commands do everything: `make quickstart` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CORE := $(VENV)/.built
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name Cargo.toml)

.PHONY: help quickstart test lint bench fuzz build clean doctor-tools

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

quickstart: $(CORE) ## run suites/quickstart.toml and write report.html
	@$(BIN)/aisec-eval run suites/quickstart.toml --out runs/quickstart

test: $(CORE) ## run every test, Rust and Python
	@cargo test --quiet --workspace --exclude aisec-python
	@$(BIN)/pytest --numprocesses 2 --dist worksteal

lint: $(CORE) ## formatting, clippy, ruff, types, stub, import order
	@cargo fmt --all --check
	@cargo clippy --quiet --workspace --all-targets -- -D warnings
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m mypy.stubtest aisec_eval._core
	@$(BIN)/lint-imports

bench: $(CORE) ## run the benchmarks (ratios; quiet machine preferred)
	@$(BIN)/pytest benchmarks --benchmark-enable --benchmark-only -o testpaths=benchmarks

FUZZ_SECONDS ?= 300
FUZZ_TARGETS := certificate constraint graph parquet statistics text

fuzz: $(CORE) ## fuzz every parser for FUZZ_SECONDS each (needs nightly Rust and cargo-fuzz)
	@for target in $(FUZZ_TARGETS); do mkdir -p fuzz/corpus/$$target && \
		cargo +nightly fuzz run -s none $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -timeout=30 || exit 1; done
	@AISEC_EVAL_FUZZ=20 $(BIN)/pytest -q tests/property/test_mutated_onnx.py tests/property/test_mutated_vnnlib.py

build: $(CORE) ## build the native extension into .venv

clean: ## remove what the targets made
	rm -rf $(VENV) target runs dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

doctor-tools:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found: install Python 3.11 or newer, or pass PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is older than 3.11: install Python 3.11 or newer, or pass PYTHON=/path/to/python3"; exit 1; }
	@command -v cargo >/dev/null || { echo "make: cargo not found: install Rust from https://rustup.rs"; exit 1; }

$(STAMP): pyproject.toml | doctor-tools
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "make: cannot create $(VENV): install your system's python3-venv package"; exit 1; }
	@$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/pip install --quiet --group dev
	@touch $@

$(CORE): $(STAMP) $(RUST_SOURCES)
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) PIP_QUIET=1 $(BIN)/maturin develop --release --quiet --extras ray,sklearn,flax,equinox,train
	@touch $@
