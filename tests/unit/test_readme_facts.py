"""The names and figures that the README and the pages of promises state are those of the package."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import re
from dataclasses import fields

import pytest

from airflow_provider_nbjob import exceptions, outages
from airflow_provider_nbjob.arguments.notebook_argument import SERIALIZED_NOTEBOOK_MAX_BYTES
from airflow_provider_nbjob.emulator.__main__ import parser
from airflow_provider_nbjob.get_provider_info import get_provider_info
from airflow_provider_nbjob.hooks.clients import resolve_endpoint
from airflow_provider_nbjob.hooks.files import (
    OUTPUT_SECONDS,
    READ_BYTES_PER_SECOND,
    SOURCE_SECONDS,
    STORED_MAX_BYTES,
)
from airflow_provider_nbjob.hooks.notebook_execution_job import DELETE_SECONDS, NotebookExecutionJobHook
from airflow_provider_nbjob.job import JobResult
from airflow_provider_nbjob.lifecycle.cancellation import INTERRUPT_SECONDS
from airflow_provider_nbjob.operators import notebook_execution_job as operators
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor
from airflow_provider_nbjob.triggers.api_calls import HUNG_SECONDS, HUNG_THREADS_MAX
from airflow_provider_nbjob.triggers.notebook_execution_job import STOP_SECONDS
from airflow_provider_nbjob.triggers.supervision import LATE_SECONDS
from scripts.compatibility import CI
from tests.support.makefile import dry_run, make
from tests.support.paths import CHECKOUT
from tests.support.promises import DOCUMENTS

TEXT = "".join((CHECKOUT / document).read_text() for document in DOCUMENTS)
OPTIONS = get_provider_info()["config"]["nbjob"]["options"]


def row(head: str) -> str:
    """Return the cells of a table's row after its first."""
    (found,) = re.findall(rf"^\| {re.escape(head)} \|(.*)\|$", TEXT, re.MULTILINE)
    return str(found)


def codes(text: str) -> set[str]:
    """Return the identifiers that stand as code in a text."""
    return set(re.findall(r"`([A-Za-z_]+)`", text))


def arguments(kind: type) -> dict[str, inspect.Parameter]:
    """Return the arguments of a class and of the classes that it is derived from."""
    return {
        name: parameter
        for base in reversed(kind.__mro__)
        if "__init__" in vars(base) and base is not object
        for name, parameter in inspect.signature(inspect.unwrap(base.__init__)).parameters.items()
    }


@pytest.mark.parametrize(
    "head",
    [
        "source, exactly one",
        "environment, exactly one",
        "identity, exactly one",
        "more of the job",
        "waiting",
        "parameters and results",
        "once, and never orphaned",
    ],
)
def test_the_arguments_of_the_operator(head):
    named = codes(row(head)) - {"commit_sha"}
    assert named
    assert named <= set(arguments(CreateNotebookExecutionJobOperator))


def test_the_parts_of_the_result():
    assert codes(row("result in XCom")) == {field.name for field in fields(JobResult)}


def test_the_errors():
    named = codes(row("errors"))
    assert {"cell", "ename", "evalue", "traceback"} <= set(vars(exceptions.JobFailed("")))
    for name in named - {"cell", "ename", "evalue", "traceback"}:
        assert issubclass(getattr(exceptions, name), exceptions.NotebookExecutionJobError), name


def test_the_operators_sensor_and_hook():
    named = codes(row("beside it"))
    there = {*operators.__all__, NotebookExecutionJobSensor.__name__, NotebookExecutionJobHook.__name__}
    assert named == there - {CreateNotebookExecutionJobOperator.__name__}


def test_the_versions_of_airflow_and_python():
    metadata = importlib.metadata.metadata("airflow-provider-nbjob")
    assert metadata["Requires-Python"] == "<3.14,>=3.10"
    assert "apache-airflow>=3.1" in metadata.get_all("Requires-Dist")


def test_the_extras():
    extras = set(importlib.metadata.metadata("airflow-provider-nbjob").get_all("Provides-Extra"))
    assert set(re.findall(r"airflow-provider-nbjob\[(\w+)\]|extra `(\w+)`", TEXT)) <= {
        pair for extra in extras for pair in ((extra, ""), ("", extra))
    }


def test_the_options_of_the_configuration():
    assert set(re.findall(r"`\[nbjob\] (\w+)`", TEXT)) == set(OPTIONS)
    assert (OPTIONS["max_requests_per_minute"]["default"], OPTIONS["direct_content_max_bytes"]["default"]) == (
        "60",
        "4000000",
    )


def test_the_limits_of_sizes():
    defaults = {name: parameter.default for name, parameter in arguments(CreateNotebookExecutionJobOperator).items()}
    assert (defaults["result_max_bytes"], defaults["max_output_bytes"]) == (48 * 2**10, 256 * 2**20)
    assert (STORED_MAX_BYTES, SERIALIZED_NOTEBOOK_MAX_BYTES) == (32 * 2**20, 100 * 2**10)


def test_the_limits_of_times():
    assert (outages.REFUSALS_MIN, outages.REFUSED_SECONDS, outages.OUTAGE_SECONDS_MAX) == (3, 600, 24 * 3600)
    assert (outages.CONNECTION_SECONDS_MAX, LATE_SECONDS, HUNG_SECONDS, HUNG_THREADS_MAX) == (600, 60, 120, 4)
    assert (STOP_SECONDS, INTERRUPT_SECONDS, DELETE_SECONDS) == (3600, 60, 60)
    assert (OUTPUT_SECONDS, SOURCE_SECONDS, READ_BYTES_PER_SECOND) == (60, 120, 4 * 2**20)


@pytest.mark.parametrize("named_by", ["argument", "extra"])
def test_another_host_of_the_api(monkeypatch, named_by):
    address = "http://127.0.0.1:8960"
    extra = {"project": "p", "api_endpoint": address} if named_by == "extra" else {"project": "p"}
    connection = {"conn_type": "google_cloud_platform", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(connection))
    hook = NotebookExecutionJobHook(api_endpoint=address if named_by == "argument" else None)
    assert hook.get_endpoint("us-central1") == resolve_endpoint("us-central1", address) == ("127.0.0.1:8960", True)


def test_the_options_of_the_emulator():
    options = {name for action in parser()._actions for name in action.option_strings} - {"-h", "--help", "--host"}
    named = set(re.findall(r"--[a-z-]+", row("options")))
    assert options == named | {"--grpc-port", "--rest-port", "--storage-port"}
    defaults = parser().parse_args([])
    assert (defaults.max_concurrent, defaults.cleanup_delay) == (2, 5.0)


def test_the_commands_of_make():
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", TEXT, re.MULTILINE))
    printed = make("help")
    listed = {line.split()[0] for line in printed.splitlines()}
    assert {"demo", "ui", "test", "help"} < named <= listed


def test_make_demo_makes_the_virtual_environment_and_runs_the_demo():
    printed = dry_run("demo", "NOTEBOOK=failing.ipynb")
    assert "-m venv .venv" in printed
    assert printed.rstrip().endswith("scripts/demo.py failing.ipynb")


def test_make_test_and_make_test_all_run_all_there_is():
    for_a_pull_request, rest = dry_run("test", "COVERAGE=yes"), dry_run("test-all")
    for command in ("ruff check .", "ruff format --check .", "bin/mypy", "--cov-report=term"):
        assert command in for_a_pull_request
    assert "--cov" not in dry_run("test")
    assert "apt-get install -y -qq --no-install-recommends chromium" in for_a_pull_request
    assert "command -v chromium chromium-browser google-chrome" in for_a_pull_request
    for printed, selected in ((for_a_pull_request, '"not test_all and not production"'), (rest, "test_all")):
        assert re.search(rf"-m pytest .*-m {selected}(?: |$)", printed, re.MULTILINE)


def test_four_system_tests_are_essential():
    modules = (CHECKOUT / "tests" / "system").rglob("test_*.py")
    assert sum(path.read_text().count("\n@pytest.mark.essential\n") for path in modules) == 4


def test_other_commands_of_make():
    assert "tests/unit tests/integration -p randomly --hypothesis-profile searching --randomly-seed=7" in dry_run(
        "random", "SEED=7"
    )
    assert re.search(r"stress-ng --quiet --cpu 4 .*make test$", dry_run("test-busy"), re.MULTILINE)
    assert "--numprocesses 3" in dry_run("unit")
    assert "--numprocesses 5" in dry_run("unit", "WORKERS=5")
    assert "tests/system/test_faults.py --whole" in dry_run("test-faults")
    assert "-m tests.benchmarks --waiting 100" in dry_run("bench", "BENCH=--waiting 100")
    assert "-m tests.benchmarks.whole_airflow --tasks 40" in dry_run("bench", "WHOLE=--tasks 40")
    assert "-m tests.benchmarks.listing --database postgresql" in dry_run("bench-ui")
    assert "pytest --production --whole tests/system/test_faults.py tests/system/production" in dry_run("production")
    assert 'pytest --production -m "production or one_of_two" tests/system' in dry_run("production", "SHORT=yes")
    assert "-m tests.chaos --seed 7" in dry_run("chaos", "SEED=7")
    assert "bin/nox --session 3.1-newest-py3.12 -- unit" in dry_run("matrix", "CELL=3.1-newest-py3.12", "PARTS=unit")
    assert all(cell in dry_run("matrix-ci") for cell in CI)
