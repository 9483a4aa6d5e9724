"""What OpenLineage's provider writes of notebooks that run in a real Airflow, by its transport to a file."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_nbjob.lineage.events import JOB_FACET
from scripts.processes import BUCKET
from tests.support.airflow_processes import Airflow
from tests.support.emulator_process import EmulatorProcess
from tests.support.lineage import facet, names, parameters
from tests.support.paths import CHECKOUT
from tests.support.patience import wait_until

SECRET = "of-the-lineage-of-tasks"
SOURCE = (f"gs://{BUCKET}", "notebooks/daily_report.ipynb")
# The first test that needs it waits for the run of all notebooks.
waits_for_run = pytest.mark.timeout(600)
END = ("COMPLETE", "FAIL")


class Lineage:
    """An Airflow whose tasks report their lineage, and the events that it has written."""

    def __init__(self, folder: Path, emulator: EmulatorProcess) -> None:
        self._file = folder / "events.json"
        dags = folder / "dags"
        shutil.copytree(Path(__file__).parent / "dags", dags)
        shutil.copy(CHECKOUT / "example_dags" / "notebooks" / "failing.ipynb", dags)
        transport = {"type": "file", "log_file_path": str(self._file), "append": True}
        settings = {
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
            "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
            "AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": "60",
            "LINEAGE_BUCKET": BUCKET,
            "LINEAGE_SECRET": SECRET,
        }
        self.airflow = Airflow(folder / "home", dags, {**emulator.exports, **settings})
        self.dags = dags

    @property
    def text(self) -> str:
        """All that was written."""
        return self._file.read_text() if self._file.exists() else ""

    def of(self, job: str) -> list[dict[str, Any]]:
        """Return the events of a task, in order; of all instances if it is mapped."""
        events = [json.loads(line) for line in self.text.splitlines()]
        return [event for event in events if event["job"]["name"] == job]


@pytest.fixture(scope="module")
def ran(emulator, tmp_path_factory) -> tuple[Lineage, str]:
    """Run the DAG by `airflow dags test`; return what it reported, and what it printed."""
    lineage = Lineage(tmp_path_factory.mktemp("lineage"), emulator)
    lineage.airflow.command("db", "migrate")
    return lineage, lineage.airflow.command("dags", "test", "lineage")


@waits_for_run
@pytest.mark.every_airflow
@pytest.mark.parametrize("task", ["blocking", "deferred"])
def test_a_success(ran, task):
    lineage, _ = ran
    start, *_, end = lineage.of(f"lineage.{task}")
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == end["run"]["runId"]
    assert names(start["inputs"])[0] == names(end["inputs"])[0] == SOURCE
    job = facet(end, JOB_FACET)
    assert job["state"] == "JOB_STATE_SUCCEEDED"
    assert job["seconds"] > 0
    ((namespace, name), reports) = names(end["outputs"])
    assert namespace == f"gs://{BUCKET}"
    assert name.startswith(f"runs/{job['name'].rpartition('/')[2]}/")
    assert reports == (f"gs://{BUCKET}", "reports")  # of the task's outlets
    parent = end["run"]["facets"]["parent"]["job"]
    assert (parent["namespace"], parent["name"]) == ("tests", "lineage")


@waits_for_run
def test_a_deferred_task_starts_twice(ran):
    """Airflow tells its listeners of each start of a task's process; both events are of the same run."""
    lineage, _ = ran
    kinds = [(event["eventType"], event["run"]["runId"]) for event in lineage.of("lineage.deferred")]
    assert [kind for kind, _ in kinds] == ["START", "START", "COMPLETE"]
    assert len({run for _, run in kinds}) == 1


@waits_for_run
@pytest.mark.parametrize("task", ["failing", "deferred_failing"])
def test_a_failure(ran, task):
    lineage, _ = ran
    *_, end = lineage.of(f"lineage.{task}")
    assert end["eventType"] == "FAIL"
    job = facet(end, JOB_FACET)
    assert job["state"] == "JOB_STATE_FAILED"
    assert {name: job["cell"][name] for name in ("number", "ename", "evalue")} == {
        "number": 3,
        "ename": "KeyError",
        "evalue": "'west'",
    }
    assert "Cell 3 raised KeyError: 'west'" in facet(end, "errorMessage")["message"]
    assert len(end["outputs"]) == 1  # the executed notebook shows where
    if task == "failing":
        assert names(end["inputs"]) == [("file", str(lineage.dags / "failing.ipynb"))]


@waits_for_run
def test_mapped_tasks(ran):
    lineage, _ = ran
    ends = [event for event in lineage.of("lineage.mapped") if event["eventType"] == "COMPLETE"]
    assert len({event["run"]["runId"] for event in ends}) == 2
    assert len({facet(event, JOB_FACET)["name"] for event in ends}) == 2
    repository = "projects/emulator-project/locations/us-central1/repositories/data-quality"
    assert [names(event["inputs"]) for event in ends] == [[("dataform", repository)]] * 2


@waits_for_run
@pytest.mark.every_airflow
def test_no_event_has_a_secret(ran):
    lineage, printed = ran
    *_, end = lineage.of("lineage.blocking")
    assert parameters(end)["api_token"] == "***"
    assert SECRET not in lineage.text
    assert SECRET not in printed


@waits_for_run
def test_the_hook_reports_to_airflow_s_collector(ran):
    _, printed = ran
    (said,) = re.findall(r"the collector has (\{.*\})", printed)
    collected = ast.literal_eval(said)
    assert "/".join(SOURCE) in collected["inputs"]
    assert any(re.fullmatch(rf"gs://{BUCKET}/runs/[0-9]+/daily_report\.ipynb", uri) for uri in collected["outputs"])


@pytest.fixture
def running(emulator, tmp_path_factory) -> Iterator[Lineage]:
    """Start an Airflow with a triggerer."""
    lineage = Lineage(tmp_path_factory.mktemp("running"), emulator)
    with lineage.airflow:
        yield lineage


@waits_for_run
def test_a_task_that_starts_in_the_triggerer_ends_on_a_worker(running):
    run_id = running.airflow.trigger("lineage_from_trigger")
    assert running.airflow.wait_for_run("lineage_from_trigger", run_id, timeout=300) == "success"
    job = "lineage_from_trigger.from_trigger"
    wait_until(lambda: running.of(job)[-1:] and running.of(job)[-1]["eventType"] in END, timeout=60, what="an event")
    start, *_, end = running.of(job)
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert names(end["inputs"]) == [SOURCE]
    result = running.airflow.xcom("lineage_from_trigger", run_id, "from_trigger")
    assert facet(end, JOB_FACET)["name"] == result["name"]
    assert ["/".join(output) for output in names(end["outputs"])] == [result["output_notebook_uri"]]
    log = running.airflow.log("lineage_from_trigger", run_id, "from_trigger")
    assert "A worker ends the task: this Airflow has listeners" in log
