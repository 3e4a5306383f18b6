# make demo   serves the demo on 127.0.0.1:8000; HOST, PORT, STORE and COMPACT_AT say it otherwise,
#              PACE how many seconds the built-in model takes for a word, UPSTREAM at which
#              OpenAI-compatible server a real one is, with its API key in HERMES_UPSTREAM_KEY, and
#              CORS_ORIGINS whose pages may use the API in a browser
# make test   runs the linter, the type checker and the tests
# make docs   builds the pages of docs/ into build/docs/index.html; a warning is an error
# make conformance   writes docs/conformance.md anew
# make torture   kills writers and servers, loses replies, sets clocks back; checks what is left
# make fuzz   sends a million generated header values, and 200,000 over sockets
# make bench   measures this package beside its peers, and writes docs/benchmarks/ anew;
#              BENCH=--short only shows that all of it works: add '--output DIRECTORY' then
# make galera   serves a three-node MariaDB Galera cluster on this machine, and prints its URLs
# make .hermes-agent/.installed   gets Hermes Agent, beside whose code some of the tests run
# make .npm-clients/.installed   gets the openai npm SDK, which some of the tests drive the demo with
# make .litellm/.installed   gets LiteLLM, whose proxy is an upstream in the tests
# Each makes its own virtual environment, and installs what it needs into it.

PYTHON ?= python3
VENV ?= .venv
BENCH_VENV ?= .bench-venv
HERMES = .hermes-agent
NPM_CLIENTS = .npm-clients
LITELLM = .litellm
BENCH ?=
HOST ?= 127.0.0.1
PORT ?= 8000
STORE ?= sqlite:///hermes_demo.db
COMPACT_AT ?= $(or $(HERMES_COMPACT_AT),0)
UPSTREAM ?= $(HERMES_UPSTREAM)
PACE ?= 0.03
CORS_ORIGINS ?= $(HERMES_CORS_ORIGINS)

PIP = $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test lint docs conformance fuzz torture bench galera format clean check-python

demo: $(VENV)/.demo-installed
	$(VENV)/bin/python -m demo_app --host '$(HOST)' --port '$(PORT)' --store '$(STORE)' \
	  --compact-at '$(COMPACT_AT)' --pace '$(PACE)' --upstream '$(UPSTREAM)' \
	  --cors-origins '$(CORS_ORIGINS)'

test: lint $(HERMES)/.installed $(NPM_CLIENTS)/.installed $(LITELLM)/.installed
	$(VENV)/bin/python -m pytest --cov --cov-report=term-missing $(TESTS)

lint: $(VENV)/.test-installed
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

docs: $(VENV)/.docs-installed
	$(VENV)/bin/sphinx-build -W --keep-going -n -q -b html docs build/docs
	@echo 'Read build/docs/index.html'

format: $(VENV)/.test-installed
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf $(VENV) $(BENCH_VENV) $(HERMES) $(NPM_CLIENTS) $(LITELLM) build/docs .coverage .hypothesis \
	  .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.demo-installed: pyproject.toml constraints.txt $(VENV)/bin/python
	$(PIP) --editable '.[demo]'
	@touch $@

# With OpenTelemetry, whose part of the package is in the reference.
$(VENV)/.docs-installed: pyproject.toml constraints.txt $(VENV)/bin/python
	$(PIP) --upgrade pip
	$(PIP) --editable '.[otel]' --group docs
	@touch $@

$(VENV)/.test-installed: pyproject.toml constraints.txt $(VENV)/bin/python
	$(PIP) --upgrade pip
	$(PIP) --editable '.[asyncpg,cli,demo,mysql,otel,postgresql]' --group dev
	@touch $@

# Apart, and without what it asks for, which does not go with what the tests need: its database
# code needs the standard library alone. The tests run it in processes of its own.
$(HERMES)/.installed: tests/hermes/requirements.txt $(VENV)/bin/python
	rm -rf $(HERMES)
	$(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps \
	  --target $(HERMES) --requirement tests/hermes/requirements.txt
	@touch $@

# Without npm the tests that need it are skipped (in CI they fail). Without a lock file, which would
# record where each package came from: the one package needs no other.
$(NPM_CLIENTS)/.installed: tests/clients/package.json
	rm -rf $(NPM_CLIENTS)
	mkdir $(NPM_CLIENTS)
	cp $< $(NPM_CLIENTS)
	@if command -v npm >/dev/null; then \
	  cd $(NPM_CLIENTS) && \
	  npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error && \
	  touch .installed; \
	else echo "npm was not found: the tests with the openai npm SDK will not run" >&2; fi

# Apart, because it pins what it needs itself. The tests run its proxy behind the demo.
$(LITELLM)/.installed: tests/litellm/requirements.txt | check-python
	rm -rf $(LITELLM)
	$(PYTHON) -m venv $(LITELLM)
	$(LITELLM)/bin/python -m pip --disable-pip-version-check install --quiet \
	  --requirement tests/litellm/requirements.txt
	@touch $@

$(VENV)/bin/python: | check-python
	$(PYTHON) -m venv $(VENV)

check-python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) was not found: install Python 3.11 or newer, or name it: make PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is older than 3.11: install a newer one, or name it: make PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON) -m venv' cannot run: Python's venv and ensurepip modules are missing." >&2; \
	  echo "On Debian and Ubuntu: apt install python3-venv" >&2; \
	  exit 1; }

conformance: $(VENV)/.test-installed
	HERMES_WRITE_CONFORMANCE=1 $(VENV)/bin/python -m pytest tests/conformance

fuzz: $(VENV)/.test-installed
	$(VENV)/bin/python -m tests.fuzz

torture: $(VENV)/.test-installed
	$(VENV)/bin/python -m tests.torture

bench: $(BENCH_VENV)/.installed
	$(BENCH_VENV)/bin/python -m benchmarks $(BENCH)

# Not by constraints.txt: the peers' own pins are older here and there.
$(BENCH_VENV)/.installed: pyproject.toml benchmarks/requirements.txt $(BENCH_VENV)/bin/python
	$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check install --quiet \
	  --editable '.[asyncpg]' --requirement benchmarks/requirements.txt
	@touch $@

$(BENCH_VENV)/bin/python: | check-python
	$(PYTHON) -m venv $(BENCH_VENV)

galera: $(VENV)/.test-installed
	$(VENV)/bin/python -m tests.clusters.galera
