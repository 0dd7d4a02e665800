# Every target makes what it needs: a virtual environment in .venv, filled from the lock files with hashes checked.
# Needed beforehand: make, Python 3.11 or newer with venv (Debian: apt-get install make python3-venv).

PYTHON ?= python3
VENV   ?= .venv
CONFIG ?= config/plant.yaml
STATE  ?= state
SPEED  ?= 1
WORKERS ?= 2
PER_KIND ?= 1000
INPUTS ?= 10000
SEED    ?= 1

BIN := $(VENV)/bin
# The stamps carry the content of the lock files, not their time: a fresh clone and a changed lock are both seen.
content = $(shell cat $(1) | cksum | cut -d' ' -f1)
RUN_STAMP := $(VENV)/.run-$(call content,requirements/run.txt pyproject.toml)
DEV_STAMP := $(VENV)/.dev-$(call content,requirements/dev.txt pyproject.toml)
PEERS := tests/peers
PEERS_STAMP := $(PEERS)/node_modules/.peers-$(call content,$(PEERS)/package-lock.json)
TRYTON := tests/erp_tryton
TRYTON_VENV := .venv-tryton
TRYTON_STAMP := $(TRYTON_VENV)/.tryton-$(call content,$(TRYTON)/requirements.txt)
CYCLES ?= 300
ROWS    ?= 50000
EVENTS ?= 864000
RATE   ?= 500
SERVER ?= asyncua
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest -q

export PATH := $(PATH):/usr/sbin:/sbin
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo run check test system bench chaos-opcua chaos-modbus kill power corrupt disk sigterm watchdog clock soak scale fuzz peers tryton schema lock lock-tryton

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 20

demo: $(RUN_STAMP) ## a plant, a broker, an ERP and the gateway on this machine; SPEED=5 makes it five times faster
	@$(BIN)/lineside demo --speed $(SPEED)

run: $(RUN_STAMP) ## the daemon: make run CONFIG=config/plant.yaml STATE=state
	@$(BIN)/lineside run -c $(CONFIG) --state-dir $(STATE)

check: $(DEV_STAMP) ## format, lint, types, layers and fast tests, about a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -m "not slow and not system" -n $(WORKERS) --dist worksteal --timeout 60

test: $(DEV_STAMP) $(PEERS_STAMP) $(TRYTON_STAMP) ## every test but the long whole-daemon runs
	@PYTHON=$(BIN)/python requirements/debian.sh test
	$(PYTEST) -m "not system" -n $(WORKERS) --dist loadfile --no-loadscope-reorder --timeout 600

system: $(DEV_STAMP) $(PEERS_STAMP) $(TRYTON_STAMP) ## the long whole-daemon runs
	@PYTHON=$(BIN)/python requirements/debian.sh test
	@PYTHON=$(BIN)/python requirements/debian.sh system
	$(BIN)/python -m tests.beside -m thorough -n $(WORKERS) --dist worksteal --timeout 1800 --while \
	  -m "system and not thorough and not calm and not alone" -n $(WORKERS) --dist loadgroup --no-loadscope-reorder --timeout 1800
	$(PYTEST) -m calm -n $(WORKERS) --dist loadgroup --timeout 1800
	$(PYTEST) -m alone --timeout 1800

bench: $(DEV_STAMP) ## CPU time per value, beside a thin script without a journal; per replayed reading, with memory
	@PYTHON=$(BIN)/python requirements/debian.sh test
	@status=0; $(BIN)/python -m tests.bench.run || status=1; $(BIN)/python -m tests.bench.replay || status=1; exit $$status

chaos-opcua: $(DEV_STAMP) $(PEERS_STAMP) ## links, servers and PLC programs that die in turn: make chaos-opcua CYCLES=300 SERVER=asyncua|node-opcua
	$(BIN)/python -m tests.chaos.opcua --cycles $(CYCLES) --server $(SERVER)

chaos-modbus: $(DEV_STAMP) ## sixteen kinds of bad Modbus reply; serial framing; many units behind one gateway: make chaos-modbus PER_KIND=1000 SEED=1
	$(BIN)/python -m tests.chaos.modbus --per-kind $(PER_KIND) --seed $(SEED)
	$(BIN)/python -m tests.chaos.modbus --per-kind $(PER_KIND) --seed $(SEED) --layout rtu+tcp
	$(BIN)/python -m tests.chaos.modbus --per-kind $$(($(PER_KIND) / 5)) --seed $(SEED) --layout gateway

kill: $(DEV_STAMP) ## kill -9 of the daemon below a whole chain, with a broker, a consumer and an ERP: make kill CYCLES=5000
	@PYTHON=$(BIN)/python requirements/debian.sh test
	$(BIN)/python -m tests.chaos.kill --cycles $(CYCLES) --seed $(SEED)

corrupt: $(DEV_STAMP) ## damaged journals: each must start, with what is readable saved: make corrupt CYCLES=1000
	$(BIN)/python -m tests.chaos.corrupt --mutants $(CYCLES) --seed $(SEED)

disk: $(DEV_STAMP) ## a full disk (needs root), a read-only one, I/O errors below the whole daemon
	@PYTHON=$(BIN)/python requirements/debian.sh test
	$(PYTEST) -m system tests/chaos/test_disk.py --timeout 300

power: $(DEV_STAMP) ## power cut below the journal (needs root: it mounts a file system), with a control that must lose: make power CYCLES=3000
	@PYTHON=$(BIN)/python requirements/debian.sh test
	$(BIN)/python -m tests.chaos.power --cycles $(CYCLES) --seed $(SEED)

.PHONY: chaos outage
chaos: $(DEV_STAMP) ## brokers killed, overflowing, denying, refusing, failing over, hanging up at every packet: make chaos CYCLES=300
	@PYTHON=$(BIN)/python requirements/debian.sh test
	$(BIN)/python -m tests.chaos.broker --kills $(CYCLES)

outage: $(DEV_STAMP) ## broker and ERP away for ROWS/10 seconds on a manual clock, then back: make outage ROWS=2600000
	@PYTHON=$(BIN)/python requirements/debian.sh test
	$(BIN)/python -m tests.chaos.outage --rows $(ROWS)

sigterm: $(DEV_STAMP) ## SIGTERM at random moments, also with PLC and broker gone dark: make sigterm CYCLES=300
	@PYTHON=$(BIN)/python requirements/debian.sh test
	$(BIN)/python -m tests.chaos.sigterm --cycles $(CYCLES) --seed $(SEED)

watchdog: $(DEV_STAMP) ## a hung loop, writer or poller is seen within ten seconds, a busy machine is none
	$(BIN)/python -m tests.chaos.watchdog

clock: $(DEV_STAMP) ## the clock set by an hour, six hours asleep, 1970 at boot, the end of summer time
	@PYTHON=$(BIN)/python requirements/debian.sh test
	$(PYTEST) tests/system/test_clock_step.py tests/domain/test_clock_set.py --timeout 600

soak: $(DEV_STAMP) ## a day of ledger events as fast as RATE says: memory, threads, descriptors, tasks and the loop: make soak EVENTS=864000 RATE=500
	@PYTHON=$(BIN)/python requirements/debian.sh test
	$(BIN)/python -m tests.chaos.soak --events $(EVENTS) --rate $(RATE)

scale: $(DEV_STAMP) ## 10,000 OPC UA tags and 20,000 Modbus registers; a dead, a slow and a flapping device among ten
	$(BIN)/python -m tests.scale.run
	$(BIN)/python -m tests.scale.neighbours
	$(BIN)/python -m tests.scale.neighbours --layout opcua

fuzz: $(DEV_STAMP) ## every parser of what others write on inputs that are nearly right: make fuzz INPUTS=10000 SEED=1
	$(BIN)/python -m tests.fuzz.run --inputs $(INPUTS) --seed $(SEED) --workers $(WORKERS)

peers: $(PEERS_STAMP) ## the servers of other hands that the tests speak to, from npm

tryton: $(TRYTON_STAMP) ## the ERP server that the tests drive, in a virtual environment of its own

schema: $(RUN_STAMP) ## write the published schemas again
	$(BIN)/lineside schema config > config/lineside.schema.json.new
	mv config/lineside.schema.json.new config/lineside.schema.json
	$(BIN)/lineside schema openapi > docs/erp/openapi.json.new
	mv docs/erp/openapi.json.new docs/erp/openapi.json

lock: requirements/lock.in ## compile the lock files again from pyproject.toml
	@requirements/debian.sh venv
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet -r requirements/lock.in
	for set in run:--extra=demo dev:--all-extras; do \
	  CUSTOM_COMPILE_COMMAND="make lock" $(VENV)-lock/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe \
	    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links $${set#*:} \
	    --output-file requirements/$${set%%:*}.txt pyproject.toml requirements/build.in || exit 1; \
	done

lock-tryton: requirements/lock.in ## compile the lock file of the Tryton server again
	@requirements/debian.sh venv
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet -r requirements/lock.in
	CUSTOM_COMPILE_COMMAND="make lock-tryton" $(VENV)-lock/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --output-file $(TRYTON)/requirements.txt $(TRYTON)/requirements.in

# No install script of a package runs: none of these needs one.
$(PEERS_STAMP): $(PEERS)/package-lock.json
	@requirements/debian.sh peers
	npm ci --prefix $(PEERS) --ignore-scripts --loglevel error
	@touch $@

# Tryton is under the GPL: its own virtual environment, its own process, never imported by the project.
$(TRYTON_STAMP): $(TRYTON)/requirements.txt
	@PYTHON=$(PYTHON) requirements/debian.sh venv
	$(PYTHON) -m venv $(TRYTON_VENV)
	$(TRYTON_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --only-binary :all: -r $<
	@touch $@

$(BIN)/python:
	@PYTHON=$(PYTHON) requirements/debian.sh venv
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): | $(BIN)/python
	$(PIP) install --require-hashes --only-binary :all: -r requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV_STAMP): | $(BIN)/python
	$(PIP) install --require-hashes --only-binary :all: -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@ $(RUN_STAMP)
