# make demo   serves the demo on 127.0.0.1:8000; HOST, PORT, STORE and COMPACT_AT say it otherwise,
#              PACE how many seconds the built-in model takes for a word, UPSTREAM at which
#              OpenAI-compatible server a real one is, with its API key in HERMES_UPSTREAM_KEY, and
#              CORS_ORIGINS whose pages may use the API in a browser
# make test   runs the linter, the type checker and the tests, with a dose of those that take long
# make coverage   runs the same, and measures which lines and branches they pass through, as CI does
# make test-long   runs the tests that start and kill servers and clusters, all of them
# make docs   builds the pages of docs/ into build/docs/index.html; a warning is an error
# make test-lowest   runs the tests on the lowest allowed version of every dependency
# make test-wheel   runs the tests on the built wheel, with no source beside them
#              DOSE=short runs those that say most, and TESTS=... names others
# make dist    builds the wheel and the sdist in dist/, and checks them; two builds are the same
# make conformance   writes docs/conformance.md anew
# make proxies   runs seven proxies before the middleware, and writes the tables of docs/proxies.md anew
# make servers   serves an application by seven servers, in .servers, and writes the tables of docs/servers.md anew
# make http2   speaks HTTP/2 and HTTP/3 to servers and proxies, and writes the tables of docs/http2.md anew
# make assets   serves seven frameworks' files, in .assets, a gigabyte, and writes the table of docs/caches.md anew
# make applications   serves other people's applications, by their own clients, in .applications, and writes
#              the table of applications in docs/conformance.md anew
# make drivers   uses a store by each driver, those that it refuses in .drivers, and writes a table of docs/databases.md anew
# make runtimes   runs tests by other Pythons, options, event loops and Pyodide, in .runtimes, and writes the
#              tables of docs/installation.md anew; RUNTIME_NAMES=python3.14 names the Pythons, of those that
#              are found on PATH or by pyenv
# make torture   kills writers, servers and poolers, loses replies, sets clocks back; checks what is left
# make cuts   cuts clients, proxies, workers and databases off 10,000 times while answers run (CUTS);
#              checks that each answer is whole, and there once
# make fuzz   sends a million generated header values, and 200,000 over sockets
# make bench   measures this package beside its peers, and writes docs/benchmarks/ anew, in less than
#              half an hour; BENCH=--short only shows that all of it works: add '--output DIRECTORY' then
# make installed-peers   gets the peers that are measured, each by itself
# make findings   runs what was found out about others' software, each in an environment of its own
# make galera   serves a three-node MariaDB Galera cluster on this machine, and prints its URLs
# make .hermes-agent/.installed   gets Hermes Agent, beside whose code some of the tests run
# make .npm-clients/.installed   gets the openai npm SDK, which some of the tests drive the demo with
# make installed-clients   gets the clients that the tests drive the demo with, each by itself
# make clients   writes the tables of docs/clients.md anew
# make frameworks   writes the tables of docs/framework-stores.md anew, also from the frameworks' own tests
# make hermes-versions   gets every version of Hermes Agent, runs each beside the store over its
#              database, also 10,000 turns of both at once, and writes the table in docs/hermes.md anew
# make hermes-api   sends the same requests to Hermes Agent's API server and the demo, and writes the
#              table in docs/hermes-api.md anew
# make open-webui   gets Open WebUI, two gigabytes, and drives it in a browser
# make .frameworks/.installed   gets the agent frameworks that have adapters
# make .litellm/.installed   gets LiteLLM, whose proxy is an upstream in the tests
# make environments   gets all of these that `make test` needs; at once with --jobs, after make .venv/.test-installed
# Tests run in WORKERS processes at once (4), each with databases of its own; WORKERS=0 is none but pytest's.
# Each makes its own virtual environment, and installs what it needs into it.

PYTHON ?= python3
VENV ?= .venv
BENCH_VENVS = .bench
BENCH_ENVIRONMENTS = benchmarks/peers/environments
LOWEST_VENV ?= .lowest-venv
WHEEL_VENV ?= .wheel-venv
HERMES = .hermes-agent
HERMES_VERSIONS = .hermes-versions
NPM_CLIENTS = .npm-clients
LITELLM = .litellm
FRAMEWORKS = .frameworks
OPEN_WEBUI = .open-webui
CLIENTS = .clients
SERVERS = .servers
ASSETS = .assets
DRIVERS = .drivers
RUNTIMES = .runtimes
RUNTIME_NAMES ?= python3.12 python3.13 python3.14
APPLICATIONS = .applications
APPLICATION_ENVIRONMENTS = $(patsubst tests/integration/applications/environments/%.txt,$(APPLICATIONS)/%/.installed,\
  $(wildcard tests/integration/applications/environments/*.txt))
POOLERS = .poolers
CLIENT_NAMES = $(basename $(notdir $(wildcard tests/demo/clients/environments/*)))
BENCH ?=
WORKERS ?= 4
COVERAGE ?=
CUTS ?= 10000
HOST ?= 127.0.0.1
PORT ?= 8000
STORE ?= $(or $(HERMES_STORE),sqlite:///hermes_demo.db)
COMPACT_AT ?= $(or $(HERMES_COMPACT_AT),0)
UPSTREAM ?= $(HERMES_UPSTREAM)
PACE ?= 0.03
CORS_ORIGINS ?= $(HERMES_CORS_ORIGINS)

QUIETLY = -m pip --disable-pip-version-check install --quiet
# More than the cores of a small machine: tests wait, for servers and browsers, more than they compute.
PYTEST = -m pytest --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder $(RERUNS)
# One of thousands that start servers, browsers and clusters may fail by the machine that they share:
# CI tries it once more, and pytest's closing line counts it.
RERUNS = $(if $(CI),--reruns 1 -raR)
NPM_INSTALL = npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error
PIP = $(VENV)/bin/python $(QUIETLY) --constraint constraints.txt
EXTRAS = asyncpg,cli,client,demo,fast,mysql,otel,postgresql

# What says most about an installation in about a minute; all of it if DOSE is not short.
DOSE ?=
SHORT = $(addprefix tests/,test_ids.py test_messages.py asgi/test_headers.py asgi/test_middleware.py \
  asgi/test_stamping.py asgi/test_websockets.py session/test_session.py session/test_turn.py \
  stores/sqlalchemy/test_lazy_engine.py database/test_store_errors.py routes/test_session_routes.py \
  docs/test_docs_examples.py packaging/test_layers.py packaging/test_public_names.py)
# What `make test` leaves to `make test-long`; TESTS=... leaves out nothing.
BUT_LONG = $(if $(TESTS),,-m 'not long')
LONG = tests/contract tests/database/test_hung_database.py tests/database/workers tests/integration/clusters \
  tests/integration/processes tests/integration/proxies tests/long tests/packaging/test_dist.py \
  tests/demo/test_demo_workers.py tests/demo/test_demo_background_workers.py tests/demo/test_page_workers.py \
  tests/demo/clients tests/stores/sqlalchemy/test_answer_interleavings.py \
  tests/stores/sqlalchemy/test_interleavings.py tests/costs/test_answer_benchmarks.py \
  tests/integration/servers/test_servers_page.py tests/integration/assets tests/integration/drivers \
  tests/integration/runtimes tests/integration/http2 tests/integration/applications tests/integration/between \
  tests/stores/sqlalchemy/encryption/test_contract.py
SUITE = $(or $(TESTS),$(if $(filter short,$(DOSE)),$(SHORT),tests))

# The time that is written into what is built: the last commit's, so that two builds are the same.
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),1764115200)

.PHONY: demo environments test coverage test-long test-lowest test-wheel dist check-tag lint docs conformance proxies servers http2 assets drivers poolers runtimes applications frameworks hermes-versions hermes-api clients installed-clients open-webui fuzz torture cuts bench \
  installed-peers galera findings format clean check-python

demo: $(VENV)/.demo-installed
	$(VENV)/bin/python -m demo_app --host '$(HOST)' --port '$(PORT)' --store '$(STORE)' \
	  --compact-at '$(COMPACT_AT)' --pace '$(PACE)' --upstream '$(UPSTREAM)' \
	  --cors-origins '$(CORS_ORIGINS)'

test: lint $(HERMES)/.installed $(NPM_CLIENTS)/.installed $(LITELLM)/.installed $(FRAMEWORKS)/.installed \
  $(SERVERS)/.installed installed-clients
	$(VENV)/bin/python $(PYTEST) $(BUT_LONG) $(COVERAGE) $(TESTS)

coverage:
	$(MAKE) test COVERAGE='--cov --cov-report=term-missing'

# Each module's servers and clusters run on the same machine: two at a time.
test-long: $(VENV)/.test-installed $(DRIVERS)/.installed $(POOLERS)/.installed $(RUNTIMES)/pyodide/.installed \
  $(SERVERS)/.installed $(ASSETS)/.installed \
  $(HERMES)/.installed $(NPM_CLIENTS)/.installed $(LITELLM)/.installed $(FRAMEWORKS)/.installed \
  $(APPLICATION_ENVIRONMENTS) installed-clients
	$(VENV)/bin/python -m pytest --numprocesses $(if $(filter 0,$(WORKERS)),0,2) --dist loadscope $(LONG) \
	  --ignore tests/long/open_webui --ignore tests/integration/proxies/front

# Runs with Python 3.11 and 3.12 alone.
open-webui: $(VENV)/.test-installed $(OPEN_WEBUI)/.installed
	$(VENV)/bin/python -m pytest tests/long/open_webui

lint: $(VENV)/.test-installed
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

docs: $(VENV)/.docs-installed
	$(VENV)/bin/sphinx-build -W --keep-going -n -q -b html docs build/docs
	@echo 'Read build/docs/index.html'

test-lowest: $(LOWEST_VENV)/.installed $(HERMES)/.installed
	$(LOWEST_VENV)/bin/python $(PYTEST) $(BUT_LONG) -p tests.support.lowest_versions $(SUITE) --ignore tests/packaging/test_dist.py

# In the unpacked sdist, without the package's source: whatever is imported is the wheel's.
test-wheel: $(WHEEL_VENV)/.installed $(HERMES)/.installed dist
	$(WHEEL_VENV)/bin/python $(QUIETLY) --no-deps --force-reinstall dist/*.whl
	rm -rf build/wheel
	mkdir -p build/wheel
	tar -xzf dist/*.tar.gz -C build/wheel --strip-components 1
	rm -r build/wheel/hermes_session_mw
	ln -s '$(abspath $(HERMES))' build/wheel/$(HERMES)
	cd build/wheel && '$(abspath $(WHEEL_VENV))/bin/python' -c \
	  'import hermes_session_mw as m; assert "site-packages" in m.__file__, m.__file__'
	cd build/wheel && '$(abspath $(WHEEL_VENV))/bin/python' $(PYTEST) $(BUT_LONG) $(SUITE) --ignore tests/packaging/test_dist.py

dist: $(VENV)/.test-installed
	rm -rf dist
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(VENV)/bin/python -m build \
	  --dependency-constraints-txt constraints.txt
	$(VENV)/bin/python -m twine check --strict dist/*

# TAG is v and the version, whose heading in the changelog has a day.
check-tag: | check-python
	@$(PYTHON) -c 'import re, sys, tomllib; \
	  version = tomllib.load(open("pyproject.toml", "rb"))["project"]["version"]; \
	  told = re.search(rf"(?m)^## \[{re.escape(version)}\] - \d{{4}}-", open("CHANGELOG.md").read()); \
	  sys.exit(None if told and sys.argv[1] == f"v{version}" else \
	    f"the tag {sys.argv[1]} is not v{version}, or the changelog does not tell of it")' '$(TAG)'

format: $(VENV)/.test-installed
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf $(VENV) $(BENCH_VENVS) $(LOWEST_VENV) $(WHEEL_VENV) $(HERMES) $(HERMES_VERSIONS) $(NPM_CLIENTS) $(LITELLM) $(FRAMEWORKS) $(CLIENTS) $(SERVERS) $(ASSETS) $(DRIVERS) $(POOLERS) $(RUNTIMES) $(APPLICATIONS) $(OPEN_WEBUI) build \
	  dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache

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
	$(PIP) --editable '.[$(EXTRAS)]' --group dev
	@touch $@

# These alone, and the package without what it asks for: nothing can bring a newer version along.
$(LOWEST_VENV)/.installed: pyproject.toml constraints-lowest.txt $(LOWEST_VENV)/bin/python
	$(LOWEST_VENV)/bin/python $(QUIETLY) --no-deps --requirement constraints-lowest.txt
	$(LOWEST_VENV)/bin/python $(QUIETLY) --no-deps --editable .
	$(LOWEST_VENV)/bin/python -m pip --disable-pip-version-check check
	@touch $@

$(WHEEL_VENV)/.installed: pyproject.toml constraints.txt $(WHEEL_VENV)/bin/python | dist
	$(WHEEL_VENV)/bin/python $(QUIETLY) --constraint constraints.txt --upgrade pip
	$(WHEEL_VENV)/bin/python $(QUIETLY) --constraint constraints.txt --group test \
	  "$$(ls dist/*.whl)[$(EXTRAS)]"
	$(WHEEL_VENV)/bin/python -m pip --disable-pip-version-check check
	@touch $@

$(LOWEST_VENV)/bin/python $(WHEEL_VENV)/bin/python: | check-python
	$(PYTHON) -m venv $(@D)/..

# Apart, and without what it asks for, which does not go with what the tests need: its database
# code needs the standard library alone. The tests run it in processes of its own.
$(HERMES)/.installed: tests/stores/hermes_state/requirements.txt $(VENV)/bin/python
	rm -rf $(HERMES)
	$(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps \
	  --target $(HERMES) --requirement tests/stores/hermes_state/requirements.txt
	@touch $@

# Without npm the tests that need it are skipped (in CI they fail). Without a lock file, which would
# record where each package came from: the packages need no others.
$(NPM_CLIENTS)/.installed: tests/demo/clients/package.json
	rm -rf $(NPM_CLIENTS)
	mkdir $(NPM_CLIENTS)
	cp $< $(NPM_CLIENTS)
	@if command -v npm >/dev/null; then \
	  cd $(NPM_CLIENTS) && \
	  $(NPM_INSTALL) && \
	  touch .installed; \
	else echo "npm was not found: the tests with the openai npm SDK will not run" >&2; fi

# Apart, because it pins what it needs itself. The tests run its proxy behind the demo.
$(LITELLM)/.installed: tests/demo/litellm/requirements.txt | check-python
	rm -rf $(LITELLM)
	$(PYTHON) -m venv $(LITELLM)
	$(LITELLM)/bin/python -m pip --disable-pip-version-check install --quiet \
	  --requirement tests/demo/litellm/requirements.txt
	@touch $@

# Apart, for they ask for much. Each adapter is tested there, with the framework that it is for.
$(FRAMEWORKS)/.installed: tests/adapters/frameworks/requirements.txt | $(VENV)/bin/python
	rm -rf $(@D)
	$(PYTHON) -m venv --without-pip $(@D)
	$(VENV)/bin/python -m pip --disable-pip-version-check --python $(@D)/bin/python install \
	  --quiet --no-compile --no-deps --requirement $<
	@touch $@

# Apart, for the tests need none but the three servers that are in their own environment.
$(SERVERS)/.installed: tests/integration/servers/requirements.txt
# Apart, for they ask for much.
$(ASSETS)/.installed: tests/integration/assets/requirements.txt
$(SERVERS)/.installed $(ASSETS)/.installed: | $(VENV)/bin/python
	rm -rf $(@D)
	$(PYTHON) -m venv --without-pip $(@D)
	$(VENV)/bin/python -m pip --disable-pip-version-check --python $(@D)/bin/python install \
	  --quiet --no-compile --no-deps --requirement $<
	@touch $@

# Apart, for their pins do not all go together.
$(APPLICATIONS)/%/.installed: tests/integration/applications/environments/%.txt | $(VENV)/bin/python
	rm -rf $(@D)
	$(PYTHON) -m venv --without-pip $(@D)
	$(VENV)/bin/python -m pip --disable-pip-version-check --python $(@D)/bin/python install \
	  --quiet --no-compile --no-deps --requirement $<
	@touch $@

# Apart, for no store takes them: a folder of modules, beside the tests' own environment.
$(DRIVERS)/.installed: tests/integration/drivers/requirements.txt | $(VENV)/bin/python
	rm -rf $(@D)
	$(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --no-compile --no-deps \
	  --target $(@D) --requirement $<
	@touch $@

# An interpreter that the machine does not have is left out.
$(RUNTIMES)/python%/.installed: tests/integration/runtimes/requirements.txt | $(VENV)/bin/python
	rm -rf $(@D)
	@interpreter=$$(python$* -c 'import sys; print(sys.executable)' 2>/dev/null || \
	  echo "$$(pyenv prefix $* 2>/dev/null)/bin/python"); \
	if [ -x "$$interpreter" ]; then \
	  "$$interpreter" -m venv --without-pip $(@D) && \
	  $(VENV)/bin/python -m pip --disable-pip-version-check --python $(@D)/bin/python install \
	    --quiet --no-compile --requirement $< && \
	  touch $@; \
	else echo "Python $* was not found: it is not among the runtimes" >&2; fi

$(RUNTIMES)/pyodide/.installed: tests/integration/runtimes/package.json
	rm -rf $(@D)
	mkdir -p $(@D)
	cp $< $(@D)/package.json
	@if command -v npm >/dev/null; then \
	  cd $(@D) && $(NPM_INSTALL) && touch .installed; \
	else echo "npm was not found: Pyodide is not among the runtimes" >&2; fi

# All of them at once: each waits for its downloads.
installed-clients: $(VENV)/bin/python
	@$(MAKE) --silent --jobs 4 $(CLIENT_NAMES:%=$(CLIENTS)/%/.installed)

environments: $(HERMES)/.installed $(NPM_CLIENTS)/.installed $(LITELLM)/.installed $(FRAMEWORKS)/.installed \
  $(SERVERS)/.installed installed-clients

# Apart, for their pins go together as little as their users' do. Without pip, which is ten megabytes each.
$(CLIENTS)/%/.installed: tests/demo/clients/environments/%.txt | $(VENV)/bin/python
	rm -rf $(@D)
	$(PYTHON) -m venv --without-pip $(@D)
	$(VENV)/bin/python -m pip --disable-pip-version-check --python $(@D)/bin/python install \
	  --quiet --no-compile --requirement $<
	@touch $@

# What cannot be had is told, and its tests are skipped.
$(POOLERS)/.installed: tests/integration/between/install.sh tests/integration/between/pglite.json
	rm -rf $(@D)
	mkdir -p $(@D)/pglite
	bash $< $(@D)
	cp tests/integration/between/pglite.json $(@D)/pglite/package.json
	@if command -v npm >/dev/null; then \
	  cd $(@D)/pglite && $(NPM_INSTALL) --legacy-peer-deps; \
	else echo "npm was not found: PGlite will not run" >&2; fi
	@touch $@

$(OPEN_WEBUI)/.installed: tests/long/open_webui/requirements.txt | $(VENV)/bin/python
	rm -rf $(@D)
	$(PYTHON) -m venv --without-pip $(@D)
	$(VENV)/bin/python -m pip --disable-pip-version-check --python $(@D)/bin/python install \
	  --quiet --no-compile --no-deps --requirement $<
	@touch $@

$(CLIENTS)/%/.installed: tests/demo/clients/environments/%.json
	rm -rf $(@D)
	mkdir -p $(@D)
	cp $< $(@D)/package.json
	@if command -v npm >/dev/null; then \
	  cd $(@D) && $(NPM_INSTALL) && touch .installed; \
	else echo "npm was not found: the tests with $* will not run" >&2; fi

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
	HERMES_WRITE_CONFORMANCE=1 $(VENV)/bin/python -m pytest tests/asgi/conformance

# Each as a process of the tests' own. On Debian: apt install nginx-light haproxy apache2 caddy varnish squid lighttpd
proxies: $(VENV)/.test-installed
	CI=true HERMES_WRITE_PROXIES=1 $(VENV)/bin/python -m pytest tests/integration/proxies/front

servers: $(VENV)/.test-installed $(SERVERS)/.installed
	CI=true HERMES_WRITE_SERVERS=1 $(VENV)/bin/python -m pytest tests/integration/servers/test_servers_page.py

http2: $(VENV)/.test-installed $(SERVERS)/.installed
	CI=true HERMES_WRITE_HTTP2=1 $(VENV)/bin/python -m pytest tests/integration/http2

assets: $(VENV)/.test-installed $(ASSETS)/.installed
	CI=true HERMES_WRITE_ASSETS=1 $(VENV)/bin/python -m pytest tests/integration/assets

applications: $(VENV)/.test-installed $(ASSETS)/.installed $(FRAMEWORKS)/.installed $(APPLICATION_ENVIRONMENTS)
	CI=true HERMES_WRITE_APPLICATIONS=1 $(VENV)/bin/python -m pytest tests/integration/applications

drivers: $(VENV)/.test-installed $(DRIVERS)/.installed
	CI=true HERMES_WRITE_DRIVERS=1 $(VENV)/bin/python -m pytest tests/integration/drivers

runtimes: $(VENV)/.test-installed $(RUNTIME_NAMES:%=$(RUNTIMES)/%/.installed) $(RUNTIMES)/pyodide/.installed
	HERMES_WRITE_RUNTIMES=1 $(VENV)/bin/python -m pytest tests/integration/runtimes

# On Debian: apt install pgbouncer pgpool2
poolers: $(VENV)/.test-installed $(POOLERS)/.installed
	CI=true HERMES_WRITE_POOLERS=1 $(VENV)/bin/python -m pytest tests/integration/between

clients: $(VENV)/.test-installed $(LITELLM)/.installed installed-clients
	HERMES_WRITE_CLIENTS=1 $(VENV)/bin/python -m pytest tests/demo/clients/test_matrix.py

hermes-versions: $(VENV)/.test-installed
	$(VENV)/bin/python -m tests.long.hermes_versions --write

# Hermes' gateway runs with what is in $(FRAMEWORKS), aiohttp among it.
hermes-api: $(VENV)/.test-installed $(HERMES)/.installed $(FRAMEWORKS)/.installed
	HERMES_WRITE_HERMES_API=1 $(VENV)/bin/python -m pytest tests/demo/hermes_api

frameworks: $(VENV)/.test-installed $(FRAMEWORKS)/.installed
	$(VENV)/bin/python -m tests.long.frameworks
	HERMES_WRITE_FRAMEWORKS=1 $(VENV)/bin/python -m pytest tests/adapters/test_frameworks.py

fuzz: $(VENV)/.test-installed
	$(VENV)/bin/python -m tests.long.fuzz

torture: $(VENV)/.test-installed
	$(VENV)/bin/python -m tests.long.torture

cuts: $(VENV)/.test-installed
	$(VENV)/bin/python -m tests.long.cuts --cuts '$(CUTS)'

bench: installed-peers
	$(BENCH_VENVS)/ours/bin/python -m benchmarks $(BENCH)

# Several at once: each waits for its downloads.
installed-peers: $(VENV)/bin/python
	@$(MAKE) --silent --jobs 4 \
	  $(patsubst $(BENCH_ENVIRONMENTS)/%.txt,$(BENCH_VENVS)/%/.installed,$(wildcard $(BENCH_ENVIRONMENTS)/*.txt))

# Apart, for the peers' newest versions do not go together; and not by constraints.txt.
$(BENCH_VENVS)/ours/.installed: pyproject.toml
$(BENCH_VENVS)/%/.installed: $(BENCH_ENVIRONMENTS)/%.txt | $(VENV)/bin/python
	rm -rf $(@D)
	$(PYTHON) -m venv --without-pip $(@D)
	$(VENV)/bin/python -m pip --disable-pip-version-check --python $(@D)/bin/python install \
	  --quiet --requirement $<
	@touch $@

galera: $(VENV)/.test-installed
	$(VENV)/bin/python -m tests.integration.clusters.galera

findings:
	@for each in findings/*.sh; do echo "$$each"; bash "$$each" || exit 1; done
