# Goodfaith's commands. `make` alone lists them; each sets up what it needs and may be repeated.
#
#   STACK=name            another stack beside the first (default: default)
#   BROKERS=3             three brokers that replicate each other, instead of one (make up, make demo)
#   SECURE=1              links secured by TLS, logins and permissions; SECURE=certificate: logins by certificate (make up, make demo)
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
CODE := $(wildcard services shared deploy tests benchmarks)

.DEFAULT_GOAL := help
.PHONY: help setup secure demo tour up down status test test-docker test-kubernetes image compose manifests thorough lint messages format bench faults streams drills attack restore-drill upgrade-drill deep lock sbom audit clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@sed -n 's/^#   /  /p' $(firstword $(MAKEFILE_LIST))

$(VENV): requirements-dev.txt pyproject.toml deploy/local/setup.sh
	@sh deploy/local/setup.sh venv
	@touch $@

setup: $(VENV) ## virtual environment with pinned dependencies, Java and Maven, Kafka's jars
	@sh deploy/local/setup.sh kafka
	@# once, and not by every process of a stack, as where PYTHONDONTWRITEBYTECODE is set
	@$(BIN)/python -m compileall -q services shared deploy

demo: setup secure ## real notices through four services, with a table at the end
	$(GOODFAITH) demo $(ARGS)

tour: setup ## a story: a holder joins, claims, is countered, and reaches good faith (docs/tour.md)
	$(GOODFAITH) tour $(ARGS)

secure: # what secured links need beside
	@if [ -n "$(SECURE)" ]; then sh deploy/local/setup.sh postgres; fi

up: setup secure ## start everything, leave it running, print the addresses
	$(GOODFAITH) up $(ARGS)

down: $(VENV) ## stop what `make up` started (ARGS=--destroy: delete its data as well)
	$(GOODFAITH) down $(ARGS)

status: $(VENV) ## what runs, and whether it is ready
	$(GOODFAITH) status $(ARGS)

test: setup ## all tests, on a real broker and a real database
	@sh deploy/local/setup.sh network
	@sh deploy/local/setup.sh s3
	@sh deploy/local/setup.sh prometheus
	@sh deploy/local/setup.sh chromium
	@sh deploy/local/setup.sh postgres
	$(BIN)/python -m pytest -n 2 -m "not thorough" $(ARGS)

test-docker: setup ## images and compose file: built, started, real notices through them while containers are killed; tests on containers
	$(BIN)/python -m deploy.containers trial $(ARGS)

test-kubernetes: $(VENV) ## the manifests on a real Kubernetes control plane, with simulated nodes (needs Go, which builds it once)
	@sh deploy/local/setup.sh cluster
	$(BIN)/python -m deploy.kubernetes.trial $(ARGS)

image: $(VENV) ## the project's image, on the public base or on one of Debian's packages
	$(BIN)/python -m deploy.containers images

compose: $(VENV) ## write deploy/compose.yaml anew from the table of processes (ARGS="--count verification=2 FOLDER")
	$(BIN)/python -m deploy.compose $(ARGS)

manifests: $(VENV) ## Kubernetes: overlays and examples rendered, held against the API's schemas and a policy linter (needs Go)
	@sh deploy/local/setup.sh manifests
	MANIFESTS=1 $(BIN)/python -m pytest tests/unit/deploy/test_kubernetes.py $(ARGS)

thorough: setup ## the tests that `make test` leaves out because they take long
	@sh deploy/local/setup.sh s3
	@sh deploy/local/setup.sh postgres
	$(BIN)/python -m pytest -m thorough $(ARGS)

lint: $(VENV) ## ruff, mypy --strict, and what migrations do to the version before
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/python -m deploy.migrations

messages: $(VENV) ## bring the translations up to date with the texts (ARGS=--check: only say what is missing)
	$(BIN)/python -m services.operator.messages $(ARGS)

format: $(VENV) ## let ruff put the code in order
	$(BIN)/ruff check --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)

bench: setup ## throughput and latency beside a reference run on the same machine
	$(GOODFAITH) bench $(ARGS)

faults: setup ## processes, brokers and databases broken under load, with a table (ARGS="--only leaders")
	$(GOODFAITH) faults $(ARGS)

streams: setup ## workers of the stream views are killed, frozen and woken; nothing may be lost or doubled
	STREAMS_FAULTS=1 $(BIN)/python -m pytest tests/integration/test_streams_faults.py $(ARGS)

drills: setup ## faults on purpose, the alerts they raise, and the runbooks that end them (docs/reliability.md)
	@sh deploy/local/setup.sh prometheus
	$(GOODFAITH) drills --json $(ARGS)

attack: setup ## attacks on a local stack while an honest client uses it, with a table (ARGS="--short --only SSRF")
	$(GOODFAITH) attack --json $(ARGS)

restore-drill: setup ## the database is lost under load and restored, with all of its log and without the last of it
	$(GOODFAITH) restore drill $(ARGS)

upgrade-drill: setup ## the version before and this one side by side under load, forward and back (ARGS="--old v0.1.0")
	$(GOODFAITH) upgrade drill $(ARGS)

deep: $(VENV) ## a million random histories of items and of penalties, counted as the services do and anew
	$(GOODFAITH) deep $(ARGS)

lock: ## compile the pins anew (needs uv)
	$(UV_COMPILE) requirements.in -o requirements.txt
	$(UV_COMPILE) requirements.in requirements-dev.in -o requirements-dev.txt
	$(UV_COMPILE) deploy/images/requirements-build.in -o deploy/images/requirements-build.txt

sbom: $(VENV) ## bill of materials of the run-time packages (CycloneDX), in .local/sbom.json
	$(BIN)/python -m deploy.supply sbom --output .local/sbom.json

audit: $(VENV) ## known vulnerabilities of the run-time packages; exit status 75 when nobody could be asked
	@$(BIN)/python -m deploy.supply audit

clean: ## stop and delete every local stack, the virtual environment and all caches
	@if [ -x $(GOODFAITH) ]; then for state in .local/*/stack.json; do \
	  [ -e "$$state" ] && $(GOODFAITH) down --destroy --stack "$$(basename "$$(dirname "$$state")")"; done; true; fi
	rm -rf .venv .local .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis build dist *.egg-info
