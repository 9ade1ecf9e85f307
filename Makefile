# make demo:         from a bare machine to frames of real neurons, and a picture of them
# make test:         every check and every test
# make test-pandas2: the tests that need only one pair of servers, with pandas 2.2
# make docs:         the documentation site, its notebooks executed
# make check:        style, types and the tests that need only one pair of servers, while you work
#
# Each installs what is missing (scripts/install-system-packages) and a virtual environment, pinned
# by hash; when nothing has changed since, that takes a moment.

PYTHON ?= python3
VENV := .venv
RUN = $(VENV)/bin/python -m
INSTALL = $(RUN) pip install --quiet --disable-pip-version-check
EDITABLE = $(INSTALL) --no-deps --no-build-isolation --editable .

.PHONY: bench soak check demo docs test test-pandas2 lint format requirements clean system

demo: WANTED := --or-by-user
demo: system .venv/.run
	@.venv/bin/ngdata install-servers --if-missing
	@.venv/bin/ngdata demo
	@echo
	@echo "The servers stay up: \`.venv/bin/ngdata down\` stops them, and with --delete-data it deletes"
	@echo "what the demo loaded. README.md goes on from here."

# Tests run in several processes, each with servers of its own; WORKERS=0 runs them in one.
WORKERS ?= auto
PYTEST = $(RUN) pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# `system` also installs what only tests need.
test test-pandas2 check: WANTED := --for-tests
test: lint
	$(PYTEST)

check: lint
	$(PYTEST) -m "not slow"

# Peers that ask for pandas below 3 are installed beside ngdata there.
test-pandas2: VENV := .venv-pandas2
test-pandas2: system .venv-pandas2/.dev
	$(PYTEST) -m "not slow"

lint: system .venv/.dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

format: system .venv/.dev
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

# The site, in docs/_build/html. The notebooks run, unless nothing has changed since they last did.
docs: system .venv/.dev
	$(RUN) sphinx --nitpicky --fail-on-warning --keep-going -c docs . docs/_build/html

# The tables and pictures of docs/performance.md; PARTS names some of them, BENCH_HOME keeps the store.
TOKENS ?= 1000000
bench: system .venv/.dev
	$(RUN) benchmarks $(PARTS) --tokens $(TOKENS) $(if $(BENCH_HOME),--home $(BENCH_HOME))

# Many threads and tasks for MINUTES: nothing may grow, and every answer must be right.
MINUTES ?= 5
soak: system .venv/.dev
	$(RUN) benchmarks soak --minutes $(MINUTES)

# Pins anew what pyproject.toml asks for; needs uv.
requirements:
	scripts/compile-requirements

# The data stay; `ngdata status` says where.
clean:
	-test ! -x .venv/bin/ngdata || .venv/bin/ngdata down
	rm -rf .venv .venv-pandas2

system:
	@PYTHON="$(PYTHON)" scripts/install-system-packages $(WANTED)

# One made without pip, or cut short, is made again.
.venv/.made .venv-pandas2/.made: | system
	@scripts/timed "Creating a virtual environment in $(@D)" $(PYTHON) -m venv --clear $(@D)
	@touch $@

.venv/.run: requirements.txt pyproject.toml .venv/.made
	@scripts/timed "Installing $$(grep -c == requirements.txt) packages into .venv: at first a minute or two" \
		$(INSTALL) --require-hashes --requirement requirements.txt
	@$(EDITABLE)
	@touch $@

# A superset of what a run needs.
.venv/.dev: requirements-dev.txt requirements.txt pyproject.toml .venv/.made
	@scripts/timed "Installing $$(grep -c == requirements-dev.txt) packages into .venv: at first two to five minutes" \
		$(INSTALL) --require-hashes --requirement requirements-dev.txt
	@$(EDITABLE)
	@touch .venv/.run $@

.venv-pandas2/.dev: requirements-pandas2.txt pyproject.toml .venv-pandas2/.made
	@scripts/timed "Installing $$(grep -c == requirements-pandas2.txt) packages into $(VENV): at first two to five minutes" \
		$(INSTALL) --require-hashes --requirement requirements-pandas2.txt
	@$(EDITABLE)
	@touch $@
