# The testbed's commands. `make help` lists them. Each sets up what it needs on a Debian 12 machine.

VENV ?= .venv
PYTHON := $(VENV)/bin/python
TARGET ?= p4switch
export TARGET
# Racks, switches and raw sockets need root; sudo is used where you are not.
ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=TARGET,P4SWITCH_CACHE)
ARGS ?=

.PHONY: help
help: ## list the commands
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: setup
setup: ## install what is needed: Debian packages and a virtual environment
	@scripts/setup.sh $(VENV)

.PHONY: run
run: setup ## boot a rack, run the main job on it, report (ARGS="--file F ...")
	@$(ROOT) $(PYTHON) -m experiments.run --target $(TARGET) $(ARGS)

.PHONY: campaign
campaign: setup ## safety rules under faults and 1,000,000 late writes (ARGS="--seconds 600 --seed 7 ...")
	@$(ROOT) $(PYTHON) -m experiments.campaign --target $(TARGET) $(ARGS)

.PHONY: experiments
experiments: setup ## what applications gain: all experiments, a report; make experiment-NAME for one (ARGS="--quick --list ...")
	@$(ROOT) $(PYTHON) -m experiments --target $(TARGET) $(ARGS)

experiment-%: setup
	@$(ROOT) $(PYTHON) -m experiments --target $(TARGET) $* $(ARGS)

.PHONY: crashes
crashes: setup ## kill controller, switch, memory elements and local OSes at every step of every operation (ARGS="--quick ...")
	@$(ROOT) $(PYTHON) -m experiments.crashes --target $(TARGET) $(ARGS)

.PHONY: up
up: setup ## boot a rack and keep it running (ARGS="--compute 4 ...")
	@$(ROOT) $(PYTHON) -m topologies up --target $(TARGET) $(ARGS)

.PHONY: down
down: setup ## end the running rack
	@$(ROOT) $(PYTHON) -m topologies down

.PHONY: racks-up
racks-up: setup ## boot three racks and a core switch, and keep them running (ARGS="--full 3 ...")
	@$(ROOT) $(PYTHON) -m topologies.site_cli up --target $(TARGET) $(ARGS)

.PHONY: racks-down
racks-down: setup ## end the running racks
	@$(ROOT) $(PYTHON) -m topologies.site_cli down

.PHONY: cli
cli: setup ## the controller's command line on the running rack (ARGS="status")
	@$(VENV)/bin/rackctl $(or $(ARGS),--help)

.PHONY: shell
shell: setup ## p4runtime-shell on the running rack's switch
	@scripts/p4runtime_shell.sh $(ARGS)

.PHONY: test
test: setup lint ## all checks: lint, types, imports, unit, packet-level and Mininet tests (ARGS="tests/hosts ..." for some)
	@scripts/setup_shell_venv.sh
ifeq ($(ARGS),)
	@$(ROOT) $(PYTHON) -m pytest -n auto --maxprocesses 8 --dist loadfile --ignore tests/e2e
	@$(ROOT) $(PYTHON) -m pytest tests/e2e
else
	@$(ROOT) $(PYTHON) -m pytest $(ARGS)
endif

.PHONY: lint
lint: setup ## style, types and import rules
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

.PHONY: bench
bench: setup ## how fast: forwarding, pipeline, compile, writes, loss, memory, against baselines and goals (ARGS="--quick")
	@$(ROOT) $(PYTHON) -m bench $(ARGS)

.PHONY: bench-mmu
bench-mmu: setup ## what operations on memory cost: latency, rules, page tables (ARGS="--quick --only tables ...")
	@$(ROOT) $(PYTHON) -m bench.mmu $(ARGS)

.PHONY: graph
graph: setup ## draw the P4 program into docs/rack_mmu_graph.svg
	@$(PYTHON) -m p4switch graph p4src/rack_mmu.p4 -o docs/rack_mmu_graph.svg
.PHONY: conformance
conformance: setup ## p4c's v1model programs, from a copy of p4c (P4C=DIR)
	@[ -n "$(P4C)" ] || { echo "make conformance: say where a copy of p4c is: make conformance P4C=DIR" >&2; exit 2; }
	@$(PYTHON) -m p4switch conformance "$(P4C)" $(ARGS)

.PHONY: fuzz
fuzz: setup ## the packet path under libFuzzer and sanitizers, 4 minutes (ARGS="PROG.p4 ... --seconds N")
	@$(PYTHON) -m fuzz packets $(ARGS)

.PHONY: fuzz-sources
fuzz-sources: setup ## the compiler under broken and grown programs, 2 minutes (ARGS="DIR ... --seconds N")
	@$(PYTHON) -m fuzz sources $(ARGS)

.PHONY: sanitize
sanitize: setup ## tests of the data plane and of generated code under the sanitizers (ARGS="threads" for some)
	@$(ROOT) $(PYTHON) -m fuzz sanitize $(ARGS)

.PHONY: soak
soak: setup ## a day's worth of packets, and whether memory grows (ARGS="--packets N --frames N")
	@$(ROOT) $(PYTHON) -m fuzz soak $(ARGS)

.PHONY: clean
clean: ## end a running or crashed rack and remove everything that was made
	@if [ -x $(PYTHON) ]; then $(ROOT) $(PYTHON) -m topologies clean; $(ROOT) $(PYTHON) -m topologies.site_cli clean; fi
	@$(ROOT) rm -rf out build $(VENV) .venv-shell *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@$(ROOT) find . -name __pycache__ -type d -prune -exec rm -rf {} +
