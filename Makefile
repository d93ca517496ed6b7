# Goodfaith's commands. `make` alone lists them; each sets up what it needs and can be repeated.
#
#   STACK=name            which local stack (default: default)
#   BROKERS=3             three brokers that replicate each other, instead of one (make up, make demo)
#   SECURE=1              TLS, logins and permissions; SECURE=certificate: logins by certificate (make up, make demo)
#   KAFKA_PORT, POSTGRES_PORT, INTAKE_PORT, MARKETPLACE_PORT    fixed ports instead of free ones
#   ARGS="..."            further arguments of the command (make test ARGS="tests/unit -x")
#   GOODFAITH_KAFKA, GOODFAITH_DATABASE    a broker and a database of your own; GOODFAITH_STACK=docker: containers

STACK ?= default
ARGS ?=
export GOODFAITH_STACK_NAME = $(STACK)

BIN := .venv/bin
GOODFAITH := $(BIN)/goodfaith
VENV := .venv/.complete
UV_COMPILE := uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11
CODE := $(wildcard services shared deploy labs tools examples tests benchmarks)

.DEFAULT_GOAL := help
.PHONY: help setup secure demo tour quickstart up down status test test-docker test-kubernetes image compose manifests thorough lint messages format bench faults streams drills attack restore-drill upgrade-drill deep lock sbom audit clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@sed -n 's/^#   /  /p' $(firstword $(MAKEFILE_LIST))

$(VENV): requirements-dev.txt pyproject.toml deploy/local/setup.sh
	@sh deploy/local/setup.sh venv
	@touch $@

setup: $(VENV) ## install a virtual environment with pinned dependencies, Java, Maven and Kafka's jars
	@sh deploy/local/setup.sh kafka

demo: setup secure ## replay real notices through four services and print a table
	$(GOODFAITH) demo $(ARGS)

tour: setup ## play a story: a holder joins, claims, is countered, and reaches good faith (docs/tutorials/tour.md)
	$(GOODFAITH) lab tour $(ARGS)

quickstart: STACK = quickstart
quickstart: setup ## a first claim by curl, on a stack of its own (docs/tutorials/quickstart.md; KEEP=1: leave it running)
	@trap '[ -n "$(KEEP)" ] || $(GOODFAITH) down >/dev/null' EXIT; trap 'exit 130' INT TERM; \
	  $(GOODFAITH) up --no-observe --no-canary >/dev/null && vars=$$($(GOODFAITH) env) && eval "$$vars" && sh examples/quickstart.sh

secure: # install what secured links need
	@if [ -n "$(SECURE)" ]; then sh deploy/local/setup.sh postgres; fi

up: setup secure ## start everything, leave it running, print the addresses
	$(GOODFAITH) up $(ARGS)

down: $(VENV) ## stop what `make up` started (ARGS=--destroy: delete its data as well)
	$(GOODFAITH) down $(ARGS)

status: $(VENV) ## show what runs and whether it is ready
	$(GOODFAITH) status $(ARGS)

test: setup ## run the tests on a real broker and a real database (long ones: make thorough)
	@sh deploy/local/setup.sh network
	@sh deploy/local/setup.sh s3
	@sh deploy/local/setup.sh prometheus
	@sh deploy/local/setup.sh chromium
	@sh deploy/local/setup.sh postgres
	$(BIN)/python -m pytest -n 2 -m "not thorough" $(ARGS)

test-docker: setup ## build images, start the compose file, kill containers during a replay, run tests on containers
	$(BIN)/python -m deploy.containers trial $(ARGS)

test-kubernetes: $(VENV) ## test the manifests on a real Kubernetes control plane with simulated nodes (needs Go)
	@sh deploy/local/setup.sh cluster
	$(BIN)/python -m deploy.kubernetes.trial $(ARGS)

image: $(VENV) ## build the project's image, on the public base or on one made of Debian packages
	$(BIN)/python -m deploy.containers images

compose: $(VENV) ## regenerate deploy/compose.yaml from the table of processes (ARGS="--count verification=2 FOLDER")
	$(BIN)/python -m deploy.compose $(ARGS)

manifests: $(VENV) ## render Kubernetes overlays and examples, check them by schema and policy linter (needs Go)
	@sh deploy/local/setup.sh manifests
	MANIFESTS=1 $(BIN)/python -m pytest tests/unit/deploy/test_kubernetes.py $(ARGS)

thorough: setup ## run the long tests that `make test` leaves out
	@sh deploy/local/setup.sh s3
	@sh deploy/local/setup.sh postgres
	$(BIN)/python -m pytest -m thorough $(ARGS)

lint: $(VENV) ## run ruff and mypy --strict, and check that the previous version keeps working during migrations
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m tools.migrations

messages: $(VENV) ## update the translations from the texts (ARGS=--check: only report what is missing)
	$(BIN)/python -m tools.messages $(ARGS)

format: $(VENV) ## fix and format the code with ruff
	$(BIN)/ruff check --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)

bench: setup ## measure throughput and latency, with a reference run on the same machine
	$(GOODFAITH) lab bench $(ARGS)

faults: setup ## break processes, brokers and databases under load and print a table (ARGS="--only leaders")
	$(GOODFAITH) lab faults $(ARGS)

streams: setup ## kill, freeze and resume workers of the stream views; nothing may be lost or duplicated
	STREAMS_FAULTS=1 $(BIN)/python -m pytest tests/integration/test_streams_faults.py $(ARGS)

drills: setup ## cause faults, check their alerts, and end them by runbook (docs/explanation/reliability.md)
	@sh deploy/local/setup.sh prometheus
	$(GOODFAITH) lab drills --json $(ARGS)

attack: setup ## attack a local stack while an honest client uses it and print a table (ARGS="--short --only SSRF")
	$(GOODFAITH) lab attack --json $(ARGS)

restore-drill: setup ## lose the database under load and restore it, with all of its log and without the end of it
	$(GOODFAITH) lab restore-drill $(ARGS)

upgrade-drill: setup ## upgrade from the previous version and back under load, side by side (ARGS="--old v0.1.0")
	$(GOODFAITH) lab upgrade-drill $(ARGS)

deep: $(VENV) ## compare the services' counts with a naive recount on a million random histories of items and penalties
	$(GOODFAITH) lab deep $(ARGS)

lock: ## recompile the pinned dependencies (needs uv)
	$(UV_COMPILE) requirements.in -o requirements.txt
	$(UV_COMPILE) requirements.in requirements-dev.in -o requirements-dev.txt
	$(UV_COMPILE) deploy/images/requirements-build.in -o deploy/images/requirements-build.txt

sbom: $(VENV) ## write a bill of materials of the run-time packages (CycloneDX) to .local/sbom.json
	$(BIN)/python -m tools.supply sbom --output .local/sbom.json

audit: $(VENV) ## check the run-time packages for known vulnerabilities; exits with 75 if no data source answers
	@$(BIN)/python -m tools.supply audit

clean: ## stop and delete every local stack, the virtual environment and all caches
	@if [ -x $(GOODFAITH) ]; then for state in .local/*/stack.json; do \
	  [ -e "$$state" ] && $(GOODFAITH) down --destroy --stack "$$(basename "$$(dirname "$$state")")"; done; true; fi
	rm -rf .venv .local .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis build dist *.egg-info
