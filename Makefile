# Goodfaith's commands. `make` alone lists them. Each installs what it needs, and can be repeated.
#
#   STACK=name       name of the local stack (default: default)
#   BROKERS=3        make up, demo: three brokers that replicate, instead of one
#   SECURE=1         make up, demo: TLS, logins by password, permissions
#                    (SECURE=certificate: logins by certificate)
#   KAFKA_PORT, POSTGRES_PORT, INTAKE_PORT, MARKETPLACE_PORT
#                    make up: fixed ports instead of free ones
#   ARGS="..."       further arguments, as in make test ARGS="tests/unit -x"
#   GOODFAITH_KAFKA, GOODFAITH_DATABASE
#                    a broker and a database of your own
#   GOODFAITH_STACK=docker
#                    broker and database in containers

STACK ?= default
ARGS ?=
export GOODFAITH_STACK_NAME = $(STACK)

BIN := .venv/bin
GOODFAITH := $(BIN)/goodfaith
VENV := .venv/.complete
LOCAL := .venv/.local
UV_COMPILE := uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11
# once, instead of in every process of a stack where PYTHONDONTWRITEBYTECODE is set
COMPILE = $(BIN)/python -m compileall -q services shared deploy labs
CODE := services shared deploy labs tools examples tests docs/conf.py

.DEFAULT_GOAL := help
.PHONY: help

help: # list the commands
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-15s  %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@printf '\nVariables\n'; sed -n 's/^#   /  /p' $(firstword $(MAKEFILE_LIST))

##@ Set up
.PHONY: local setup secure clean

$(VENV): requirements-dev.txt pyproject.toml deploy/local/setup.sh
	@sh deploy/local/setup.sh venv
	@touch $@

# what the local stack needs, without development tools
$(LOCAL): requirements-local.txt pyproject.toml deploy/local/setup.sh
	@[ $(VENV) -nt requirements-dev.txt ] || sh deploy/local/setup.sh local
	@touch $@

local: $(if $(filter docker,$(GOODFAITH_STACK)),$(VENV),$(LOCAL))
	@sh deploy/local/setup.sh kafka
	@$(COMPILE)

setup: $(VENV) ## install Python packages, Java, Maven and Kafka's jars
	@sh deploy/local/setup.sh kafka
	@$(COMPILE)

secure: # install what secured links need
	@if [ -n "$(SECURE)" ]; then sh deploy/local/setup.sh postgres; fi

clean: ## delete all local stacks, the virtual environment, caches
	@if [ -x $(GOODFAITH) ]; then for state in .local/*/stack.json; do \
	  [ -e "$$state" ] && $(GOODFAITH) down --destroy --yes --stack "$$(basename "$$(dirname "$$state")")"; done; true; fi
	rm -rf .venv .local .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis build dist *.egg-info

##@ Try it
.PHONY: demo tour quickstart up down status

demo: local secure ## replay real takedown notices and check the result
	$(GOODFAITH) demo $(ARGS)

tour: local ## play a story, from a first claim to good faith
	$(GOODFAITH) lab tour $(ARGS)

quickstart: STACK = quickstart
quickstart: local ## file a first claim by curl (KEEP=1: leave it running)
	@trap '[ -n "$(KEEP)" ] || $(GOODFAITH) down >/dev/null' EXIT; trap 'exit 130' INT TERM; \
	  $(GOODFAITH) up --no-observe --no-canary >/dev/null && vars=$$($(GOODFAITH) env) && eval "$$vars" && sh examples/quickstart.sh

up: local secure ## start the local stack and print its addresses
	$(GOODFAITH) up $(ARGS)

down: $(LOCAL) ## stop it (ARGS=--destroy: delete its data as well)
	$(GOODFAITH) down $(ARGS)

status: $(LOCAL) ## show what runs and whether it is ready
	$(GOODFAITH) status $(ARGS)

##@ Test
.PHONY: test thorough lint format test-docker test-kubernetes manifests audit

test: setup ## run the tests on a real broker and database
	@sh deploy/local/setup.sh network
	@sh deploy/local/setup.sh s3
	@sh deploy/local/setup.sh prometheus
	@sh deploy/local/setup.sh chromium
	@sh deploy/local/setup.sh postgres
	$(BIN)/python -m pytest -n 3 -m "not thorough" $(ARGS)

thorough: setup ## run the long tests that `make test` leaves out
	@sh deploy/local/setup.sh s3
	@sh deploy/local/setup.sh postgres
	$(BIN)/python -m pytest -m thorough $(ARGS)

lint: $(VENV) ## check style, types, imports, dependencies, migrations
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/lint-imports
	$(BIN)/deptry services shared deploy labs
	$(BIN)/deptry . --ignore DEP004
	$(BIN)/mypy
	$(BIN)/python -m tools.migrations

format: $(VENV) ## fix and format the code with ruff
	$(BIN)/ruff check --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)

test-docker: setup ## build the images and test them with compose
	$(BIN)/python -m deploy.containers trial $(ARGS)

test-kubernetes: $(VENV) ## test the manifests on a control plane (needs Go)
	@sh deploy/local/setup.sh cluster
	$(BIN)/python -m deploy.kubernetes.trial $(ARGS)

manifests: $(VENV) ## render and check the Kubernetes manifests (needs Go)
	@sh deploy/local/setup.sh manifests
	@sh deploy/local/setup.sh prometheus
	MANIFESTS=1 $(BIN)/python -m pytest tests/unit/deploy/test_kubernetes.py $(ARGS)

audit: $(VENV) ## check packages for known vulnerabilities (75: no answer)
	@$(BIN)/python -m tools.supply audit

##@ Experiment
.PHONY: population bench faults streams drills attack restore-drill upgrade-drill deep

population: local ## judge notices whose truth is known (ARGS="--items 500 --seed 1")
	$(GOODFAITH) lab population $(ARGS)

bench: setup ## measure throughput and latency, with a reference run
	$(GOODFAITH) lab bench $(ARGS)

faults: setup ## break parts under load (ARGS="--only leaders")
	$(GOODFAITH) lab faults $(ARGS)

streams: setup ## kill, freeze and resume the workers of the stream views
	STREAMS_FAULTS=1 $(BIN)/python -m pytest tests/integration/test_streams_faults.py $(ARGS)

drills: setup ## cause faults, check alerts, recover by runbook
	@sh deploy/local/setup.sh prometheus
	$(GOODFAITH) lab drills $(ARGS)

attack: setup ## attack a local stack that an honest client uses
	$(GOODFAITH) lab attack $(ARGS)

restore-drill: setup ## lose the database under load and restore it
	$(GOODFAITH) lab restore-drill $(ARGS)

upgrade-drill: setup ## upgrade under load, and back (ARGS="--old v0.2.0")
	$(GOODFAITH) lab upgrade-drill $(ARGS)

deep: $(VENV) ## compare counts with a recount on random histories
	$(GOODFAITH) lab deep $(ARGS)

##@ Generate
.PHONY: docs image compose messages lock sbom

docs: $(VENV) ## build the documentation as a site in .local/docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs .local/docs $(ARGS)

image: $(VENV) ## build the image (of Debian packages without a registry)
	$(BIN)/python -m deploy.containers images

compose: $(VENV) ## regenerate deploy/compose.yaml and what it mounts
	$(BIN)/python -m deploy.compose $(ARGS)

messages: $(VENV) ## update the translations (ARGS=--check: only list)
	$(BIN)/python -m tools.messages $(ARGS)

lock: ## pin the newest allowed packages again (needs uv)
	$(UV_COMPILE) pyproject.toml -o requirements.txt
	$(UV_COMPILE) pyproject.toml --extra local --extra pictures -c requirements.txt -o requirements-local.txt
	$(UV_COMPILE) pyproject.toml --all-extras --group dev -c requirements.txt -o requirements-dev.txt
	$(UV_COMPILE) deploy/images/requirements-build.in -o deploy/images/requirements-build.txt
	$(UV_COMPILE) deploy/images/requirements-pictures.in -o deploy/images/requirements-pictures.txt

sbom: $(VENV) ## write .local/sbom.json, a bill of materials (CycloneDX)
	$(BIN)/python -m tools.supply sbom --output .local/sbom.json
