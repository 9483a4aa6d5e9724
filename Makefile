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
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)

.PHONY: help demo ui test test-busy test-all lint unit integration random browser stress-ng test-faults chaos bench bench-ui constraints clean

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
	$(PYTEST) -m "not test_all" $(if $(COVERAGE),--cov --cov-report=term)
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

test-faults: $(VENV)/installed  ## the fault matrix with its full numbers, of which `test-all` uses smaller ones
	$(BIN)/python -m pytest tests/system/test_faults.py --whole

chaos: $(VENV)/installed  ## 200 deferred jobs while all goes wrong around their triggerer (8 min); SEED=n repeats one, MINUTES=5
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

bench: $(VENV)/installed  ## what a thousand deferred jobs cost, beside the Google provider's triggers (45 min; BENCH=--help)
	$(BIN)/python -m tests.benchmarks $(BENCH)

bench-ui: $(VENV)/installed  ## what the page of 10,000 jobs, and the tab of a notebook of 5 MB, cost the API server (3 min)
	$(BIN)/python -m tests.benchmarks.listing
	$(BIN)/python -m tests.benchmarks.notebook_tab

constraints: $(VENV)/installed  ## resolve constraints.txt anew
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.10 --extra test --extra examples \
		--no-emit-index-url --no-annotate --no-header --upgrade --output-file constraints.txt

clean:  ## remove what the other targets made
	rm -rf $(VENV) .demo .ui tests/output .pytest_cache .mypy_cache .ruff_cache
