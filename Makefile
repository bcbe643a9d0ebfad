# Everything runs in .venv, made from the hash-pinned lock files. `make demo` and `make test` do all of their own set-up.
PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.9

.DEFAULT_GOAL := help
.PHONY: help setup lock demo test chaos bench slots peers soak evaluation check lint types layers format schemas dashboard clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

.venv/stamp: requirements.lock requirements-dev.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements-dev.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

setup: .venv/stamp ## Make .venv with everything pinned

lock: .venv/stamp ## Pin the dependencies anew
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header pyproject.toml --group dev -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header bench/peers/quix.in -o bench/peers/quix.lock

demo: .venv/stamp ## Replay Seattle's weather through Kafka with a real model, and watch it learn (DEMO="--steps 90" passes options)
	@$(BIN)/palimpsest demo $(DEMO)

test: .venv/stamp ## All tests: unit, property, and integration on real Kafka and a real model
	@$(BIN)/python -m pytest $(PYTEST)

chaos: .venv/stamp ## Break real workers on three brokers for a quarter of an hour, and decide from outside (CHAOS="--seed 7")
	@$(BIN)/python -m tests.chaos $(CHAOS)

bench: .venv/stamp ## Throughput, recovery and failover, beside what it is built on; guarded publishing beside the best naive forecaster
	@$(BIN)/python -m bench.guarded
	@$(BIN)/python -m bench.throughput
	@$(BIN)/python -m bench.recovery
	@$(BIN)/python -m bench.failover

slots: .venv/stamp ## Whether the model's slots are busy, and rewrites out of the way of predictions: three quarters of an hour
	@$(BIN)/python -m bench.slots $(SLOTS)

peers: .venv/stamp ## Our worker beside Faust, Quix Streams and aiokafka on the same job: hours (PEERS="--only headline --rounds 1")
	@$(BIN)/python -m bench.peers --report docs/benchmarks.md $(PEERS)

soak: .venv/stamp ## Half an hour at full load with a failing model: nothing grows, nothing is lost (SOAK="--outage 600")
	@$(BIN)/python -m bench.soak $(SOAK)

evaluation: .venv/stamp ## What the memory is worth, by the runs behind docs/evaluation.md: hours on a CPU (EVALUATION="-c model.toml --jobs 4")
	@$(BIN)/python -m bench.evaluation $(EVALUATION)

check: .venv/stamp lint types layers ## The fast part: linters, types, layers, and tests without services
	@$(BIN)/python -m pytest -q -m "not integration" $(PYTEST)

lint: .venv/stamp ## Ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .venv/stamp ## mypy --strict
	@$(BIN)/mypy

layers: .venv/stamp ## The import contracts
	@$(BIN)/lint-imports --no-cache

format: .venv/stamp ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

schemas: .venv/stamp ## Write the JSON Schemas of messages and settings
	@$(BIN)/palimpsest schemas export schemas/json

dashboard: .venv/stamp ## Write the Grafana dashboard
	@$(BIN)/python -m deploy.grafana.dashboard

clean: ## Remove .venv and caches of tools
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
