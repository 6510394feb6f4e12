# One way to run each thing; `make help` lists them. Everything heavy goes to the user's cache, never the checkout.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/callfleet
PYTHON ?= python3
UV := $(or $(shell command -v uv 2>/dev/null),$(CACHE)/uv/bin/uv)
RUN := .venv/bin/python
CALLFLEET := .venv/bin/callfleet
SOURCES := core operator worker gateway simulator cli tests alembic
ARGS ?=
OPERATIONS ?=
SPECS ?= 1000
MACHINE ?=
# One process has the tests that live in real time, the other those that do not; 0: one test after another.
PROCESSES ?= 2
BESIDE = -n $(PROCESSES) --dist loadscope --no-loadscope-reorder
SEED ?= 1
SEEDS ?= 500
CONTACTS ?= 500
PLANS ?= 1500
PLAN ?=
CHAOS = $(RUN) -m tests.chaos.chaos_ledger --seed $(SEED) $(if $(OPERATIONS),--operations $(OPERATIONS)) $(if $(MACHINE),--machine $(MACHINE)) $(ARGS)

export UV_PYTHON_DOWNLOADS = never

.DEFAULT_GOAL := help
.PHONY: help demo record test test-long bench-ledger bench-queries chaos chaos-real chaos-ledger chaos-ledger-defects chaos-faults simulate simulate-defects bench-admission bench-planning fuzz check format crds images parts cluster-up cluster-down clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 24

demo: .venv/synced ## Call a campaign of twelve people within a budget for six (ARGS="--json --keep …")
	@$(CALLFLEET) demo $(ARGS)

record: .venv/synced ## Run the demo and record its screens for the README
	@$(CALLFLEET) demo --record docs/demo.svg $(ARGS)

test: .venv/synced ## Run the tests (ARGS goes to pytest; PROCESSES=0: one after another)
	@.ci/stage parts $(CALLFLEET) parts build
	@.ci/stage images $(CALLFLEET) images build
	@.ci/stage tests $(RUN) -m pytest $(BESIDE) $(ARGS)

test-long: .venv/synced ## Run the tests that take minutes of real calls each
	@.ci/stage parts $(CALLFLEET) parts build
	@.ci/stage images $(CALLFLEET) images build
	@.ci/stage tests $(RUN) -m pytest -m long $(ARGS)

bench-queries: .venv/synced ## How long standard queries take beside 5 million calls (ARGS="--calls 5000000")
	@$(RUN) -m tests.performance.bench_queries $(ARGS)

bench-ledger: .venv/synced ## Holds a second against pgbench's transactions (ARGS="--rounds 5 --seconds 4")
	@$(RUN) -m tests.performance.bench_ledger $(ARGS)

bench-planning: .venv/synced ## How long one look at a queue takes (ARGS="--sessions 5000 --campaigns 50")
	@$(RUN) -m tests.performance.bench_planning $(ARGS)

bench-admission: .venv/synced ## Sessions a second through the operator, on KWOK (ARGS="--sessions 1000,10000,50000"; needs an idle machine)
	@$(RUN) -m tests.performance.bench_admission $(ARGS)

chaos-ledger: .venv/synced ## The ledger under kills, cuts and crashes (OPERATIONS=1000000, a batch by its items; MACHINE=400; SEED=1)
	@$(CHAOS)

chaos: .venv/synced ## The operator under faults, on a model of the API server (PLANS=1500; SEED=1; PLAN=… plays one again)
	@$(RUN) -m tests.chaos.plans.chaos_plans --plans $(PLANS) --seed $(SEED) $(if $(PLAN),--plan $(PLAN)) $(ARGS)

chaos-real: PLANS = 150
chaos-real: .venv/synced ## The same on a real API server (PLANS=150)
	@$(RUN) -m tests.chaos.plans.chaos_plans --real --plans $(PLANS) --seed $(SEED) $(if $(PLAN),--plan $(PLAN)) $(ARGS)

chaos-ledger-defects: .venv/synced ## How many deliberate defects of the ledger are caught (OPERATIONS: of each)
	@$(CHAOS) --defects

chaos-faults: .venv/synced ## Twelve faults of PostgreSQL, and how the ledger comes out of them (ARGS="restart long-lock")
	@$(RUN) -m tests.chaos.faults.chaos_faults --seed $(SEED) $(ARGS)

simulate: .venv/synced ## Days of campaigns in virtual time, a seed each (SEEDS=500; SEED=1; CONTACTS=500)
	@$(RUN) -m tests.simulation.simulate --seed $(SEED) --seeds $(SEEDS) --contacts $(CONTACTS) $(ARGS)

simulate-defects: .venv/synced ## How many deliberate defects of planners and ledger the simulation finds
	@$(RUN) -m tests.simulation.simulate --defects $(ARGS)

fuzz: .venv/synced ## Generated specs against the real API server and reconcilers (SPECS=1000 SEED=1)
	@$(RUN) -m tests.fuzz.fuzz_specs --specs $(SPECS) --seed $(SEED) $(ARGS)

check: .venv/synced ## Lint, types, import contracts, generated files
	$(RUN) -m ruff format --check $(SOURCES)
	$(RUN) -m ruff check $(SOURCES)
	$(RUN) -m mypy core operator worker gateway simulator cli tests
	.venv/bin/lint-imports
	$(RUN) -m callfleet_core.api.crds crds charts/callfleet/templates/crds --check

format: .venv/synced ## Format the code
	$(RUN) -m ruff format $(SOURCES)
	$(RUN) -m ruff check --fix $(SOURCES)

crds: .venv/synced ## Make crds/ and the chart's copies from core's models
	$(RUN) -m callfleet_core.api.crds crds charts/callfleet/templates/crds

images: .venv/synced ## Build the operator's and the worker's images
	@$(CALLFLEET) images build $(ARGS)

parts: .venv/synced ## Build or find the real parts: Kubernetes, Ollama, models, …
	@$(CALLFLEET) parts build $(ARGS)

cluster-up: .venv/synced ## Start a local cluster, or use the one that there is
	@$(CALLFLEET) cluster up $(ARGS)

cluster-down: .venv/synced ## End the local cluster
	@$(CALLFLEET) cluster down $(ARGS)

clean: ## Remove what was made in the checkout; the cache stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(CACHE)/uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "CallFleet needs Python 3.11 or newer: make PYTHON=… $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Getting uv, which installs the Python packages" >&2
	@mkdir -p $(CACHE) && { $(PYTHON) -m venv $(CACHE)/uv || { echo "this Python cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }; }
	@$(CACHE)/uv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9'

.venv/synced: pyproject.toml uv.lock $(if $(findstring $(CACHE),$(UV)),$(UV))
	@.ci/stage packages $(UV) sync --quiet --frozen --all-extras --python $(PYTHON)
	@touch $@
