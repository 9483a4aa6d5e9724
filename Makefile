# Needs python3 (3.10 to 3.13) with venv and pip, and nothing else; leaves nothing outside this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Without byte-code Airflow's imports take more than twice as long, in every process that is started.
unexport PYTHONDONTWRITEBYTECODE
# A venv that happens to be active must not be installed into.
unexport VIRTUAL_ENV
export UV_PYTHON_DOWNLOADS := never
# On a terminal uv shows its progress; in a log its list of packages would hide everything else.
QUIETLY := $(shell test -t 2 || echo --quiet)
# More processes than cores: they mostly wait, for kernels and for Airflow.
WORKERS ?= 3
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS)
PRODUCTION := tests/system/test_faults.py tests/system/production tests/unit/plugins tests/security/plugins
DIST ?= dist
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)

.PHONY: help demo ui test test-busy test-all lint unit integration random browser stress-ng production postgresql-and-redis test-faults chaos bench bench-watch bench-airflow bench-ui matrix matrix-ci compatibility docs constraints dependencies dist clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "== creating $(VENV) (about 2 GB; a minute or two)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 to 3.13 is needed, this is " + sys.version.split()[0]) if not (3, 10) <= sys.version_info[:2] <= (3, 13) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --constraint constraints.txt uv
	@echo "== installing Airflow, Google's clients and the emulator"
	@$(BIN)/uv pip install $(QUIETLY) --no-cache --python $(BIN)/python --constraint constraints.txt --editable '.[test]'
	@touch $@

demo: $(VENV)/installed  ## run an example DAG on the emulator; NOTEBOOK=failing.ipynb for one that fails
	@$(BIN)/python scripts/demo.py $(NOTEBOOK)

ui: $(VENV)/installed  ## an Airflow to look at in a browser, with finished example runs, until Ctrl-C; UI='--port 9000'
	@$(BIN)/python scripts/ui.py $(UI)

test: lint browser  ## what a pull request needs: lint, types, unit and integration tests; COVERAGE=yes measures it
	@echo "== lint and types passed; now unit tests, tests on the emulator, and four in a real Airflow"
	@echo "== about 10 minutes on two quiet cores; NBJOB_TEST_PATIENCE=4 multiplies every bound of a wait"
	$(PYTEST) -m "not test_all and not production" $(if $(COVERAGE),--cov --cov-report=term)
	@echo "== passed. Left to 'make test-all': the fault matrix, the whole UI, every example, 'make demo' and 'make ui'"

test-busy: stress-ng  ## `test` on a machine whose cores are busy: beside `stress-ng --cpu 4`
	@stress-ng --quiet --cpu 4 --timeout 90m & load=$$!; trap 'kill $$load 2>/dev/null' EXIT INT TERM; $(MAKE) test

test-all: $(VENV)/installed browser  ## what `test` leaves out
	@echo "== all that 'make test' leaves out: faults, the whole UI, examples, scripts; about 25 minutes on two quiet cores"
	$(PYTEST) -m test_all

lint: $(VENV)/installed  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(VENV)/installed  ## tests without services
	$(PYTEST) tests/unit

integration: $(VENV)/installed browser  ## tests against the emulator, with real kernels
	$(PYTEST) tests/integration

random: $(VENV)/installed browser  ## unit and integration tests in a random order; SEED=n repeats one
	$(PYTEST) tests/unit tests/integration -p randomly --hypothesis-profile searching $(if $(SEED),--randomly-seed=$(SEED))

browser:  ## Chromium for the tests, from Debian's packages where there is none
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
		echo "== installing Chromium" && $(SUDO) apt-get update -qq && \
		$(SUDO) apt-get install -y -qq --no-install-recommends chromium >/dev/null; }

stress-ng:
	@command -v stress-ng >/dev/null || { \
		echo "== installing stress-ng" && $(SUDO) apt-get update -qq && \
		$(SUDO) apt-get install -y -qq --no-install-recommends stress-ng >/dev/null; }

production: $(VENV)/production postgresql-and-redis  ## faults and load on PostgreSQL, Redis and Celery, two of each process (60 min); SHORT=yes
	@echo "== two schedulers, workers and triggerers; $(if $(SHORT),the losses of one of two, small numbers: about 13,the whole matrix: about 60) minutes"
	$(BIN)/python -m pytest --production $(if $(SHORT),-m "production or one_of_two",--whole) $(PRODUCTION)
	@$(if $(SHORT),,$(BIN)/python -m tests.system.production.report && echo "== docs/deployment.md has the table")

$(VENV)/production: $(VENV)/installed
	@echo "== installing Celery and the drivers of PostgreSQL and Redis"
	@$(BIN)/uv pip install $(QUIETLY) --no-cache --python $(BIN)/python --constraint constraints.txt --editable '.[test,production]'
	@touch $@

postgresql-and-redis:
	@command -v redis-server >/dev/null && ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || { \
		echo "== installing PostgreSQL and Redis" && $(SUDO) apt-get update -qq && \
		RUNLEVEL=1 $(SUDO) apt-get install -y -qq --no-install-recommends postgresql redis-server >/dev/null; }

test-faults: $(VENV)/installed  ## the fault matrix with its full numbers, of which `test-all` uses smaller ones
	$(BIN)/python -m pytest tests/system/test_faults.py --whole

chaos: $(VENV)/installed  ## 200 deferred jobs, a third submitted in the triggerer, while all goes wrong around it (8 min); SEED=n repeats one, MINUTES=5
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

bench: bench-watch bench-airflow  ## what deferred jobs cost, beside other providers: both of the next two (2 h 15 min)

bench-watch: $(VENV)/bench  ## what a thousand deferred jobs cost a triggerer (45 min; BENCH=--help)
	$(BIN)/python -m tests.benchmarks $(BENCH)

bench-airflow: $(VENV)/bench  ## what a task costs a whole Airflow (90 min; WHOLE=--help, WHOLE='--tasks 40')
	$(BIN)/python -m tests.benchmarks.whole_airflow $(WHOLE)

$(VENV)/bench: $(VENV)/installed
	@echo "== installing the provider of Databricks, whose notebook operator is measured beside ours"
	@$(BIN)/uv pip install $(QUIETLY) --no-cache --python $(BIN)/python --constraint constraints.txt --editable '.[test,bench]'
	@touch $@

bench-ui: $(VENV)/production postgresql-and-redis  ## what the page of 10,000 jobs, and the tab of a notebook of 5 MB, cost the API server (5 min)
	$(BIN)/python -m tests.benchmarks.listing
	$(BIN)/python -m tests.benchmarks.listing --database postgresql
	$(BIN)/python -m tests.benchmarks.notebook_tab

# nox calls uv, which is in the same folder as nox.
NOX = PATH="$(abspath $(BIN)):$$PATH" $(BIN)/nox

matrix: $(VENV)/installed browser  ## the tests with every version that is claimed (2 h, goes on where it stopped); CELL=, PARTS=unit
	$(NOX) $(if $(CELL),--session $(CELL)) -- $(PARTS)
	$(MAKE) compatibility

matrix-ci: $(VENV)/installed  ## one cell of each minor of Airflow: unit tests, and a run, a clear and a mark in it
	$(NOX) --session $(shell $(PYTHON) -c 'from scripts.compatibility import CI; print(*CI)') -- unit airflow again

compatibility: $(VENV)/installed  ## write docs/compatibility.md from the results of `make matrix`
	$(BIN)/python -m scripts.compatibility

docs: $(VENV)/docs  ## build this documentation as a site, tests/output/site/index.html; a warning is an error
	$(BIN)/python -m scripts.reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "== tests/output/site/index.html"

$(VENV)/docs: $(VENV)/installed
	@echo "== installing MkDocs"
	@$(BIN)/uv pip install $(QUIETLY) --no-cache --python $(BIN)/python --constraint constraints.txt --editable '.[test,docs]'
	@touch $@

constraints: $(VENV)/installed  ## resolve constraints.txt anew
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.10 --extra test --extra examples --extra production --extra bench --extra docs \
		--no-emit-index-url --no-annotate --no-header --upgrade --output-file constraints.txt

dependencies: $(VENV)/production $(VENV)/bench  ## write docs/dependencies.md from pyproject.toml and what is installed
	$(BIN)/python -m scripts.dependencies

dist: $(VENV)/installed  ## build the sdist and the wheel into dist/, and check what the package index would show
	@rm -f $(DIST)/airflow_provider_nbjob-*
	$(BIN)/uv build $(QUIETLY) --no-cache --python $(BIN)/python --no-build-isolation --out-dir $(DIST)
	$(BIN)/twine check --strict $(DIST)/airflow_provider_nbjob-*

clean:  ## remove what the other targets made
	rm -rf $(VENV) .demo .ui dist tests/output .pytest_cache .mypy_cache .ruff_cache
