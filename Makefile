# The words of DESIGN section 7. Each works in a clean clone: it runs `setup` first, which is at once done when
# nothing is missing. What a target does stands in scripts/.
PYTHON ?= python3
VENV := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup check test test-all sim chaos demo down clean proto release bench lock format

help: ## Shows these words
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Installs what is missing: Debian packages, .venv. Starts nothing
	@$(PYTHON) scripts/setup.py

check: setup ## Style, types, walls between rooms, the contract: under a minute
	@$(VENV)/python scripts/check.py $(ONLY)

test: setup ## All tests but the slow ones; figures in build/test.json
	@$(VENV)/python scripts/run_tests.py test $(ARGS)

test-all: setup ## All tests, with a fresh Debian and everything slow; figures in build/test-all.json
	@$(VENV)/python scripts/run_tests.py test-all $(ARGS)

sim: setup ## Simulates a cloud of each seed and judges it (SEEDS=n OPS=m, or SEED=s; RESTORED=1); figures in build/sim.json
	@$(VENV)/python -m tests.simulation $(if $(RESTORED),--restored) --ops $(or $(OPS),100) $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),200))

chaos: setup ## Breaks a cloud of processes and judges it (MINUTES=n SEED=s); figures in build/chaos.json
	@$(VENV)/python -m tests.chaos --minutes $(or $(MINUTES),2) $(if $(SEED),--seed $(SEED))

demo: setup ## A cloud on this machine with one real guest in it; both stay
	@scripts/demo

down: setup ## Stops everything that demo started, guests too
	@scripts/down

bench: setup ## Measures; figures in build/bench.json, a plot beside it (ARGS=front for that alone)
	@scripts/bench $(ARGS)

proto: setup ## Makes generated/ from proto/, and the pages of docs/ that are made from code
	@$(VENV)/python scripts/proto.py
	@$(VENV)/python scripts/docs.py

release: setup ## Promises the contract as it is: moves proto/released.binpb
	@$(VENV)/python scripts/release.py $(if $(BREAKING),--breaking $(BREAKING))

format: setup ## Writes code and protos in the house style
	@$(VENV)/ruff check --quiet --fix-only .
	@$(VENV)/ruff format .
	@$(VENV)/buf format --write proto

lock: setup ## Pins dependencies again after a change in pyproject.toml (`make lock UPGRADE=--upgrade`)
	@$(VENV)/python scripts/lock.py $(UPGRADE)

clean: ## Removes what was built here, saying what; leaves Debian packages and the cloud's home
	@$(PYTHON) scripts/clean.py
