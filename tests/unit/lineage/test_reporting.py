"""What the operator reports, as OpenLineage's provider asks for it; and that no report has to do with the task."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import DAG, Asset
from airflow.sdk.execution_time.context import OutletEventAccessors
from google.api_core.exceptions import PermissionDenied
from google.rpc.status_pb2 import Status

from airflow_provider_nbjob.exceptions import ApiError, JobFailed
from airflow_provider_nbjob.job import JobResult
from airflow_provider_nbjob.lifecycle.outcome import REASON_MAX
from airflow_provider_nbjob.lineage.assets import EXTRA_RESULTS_MAX_BYTES
from airflow_provider_nbjob.lineage.events import JOB_FACET
from airflow_provider_nbjob.notebook.executed import EVALUE_MAX, TRACEBACK_MAX
from airflow_provider_nbjob.triggers.event import JobEvent
from tests.support.fake_google import FakeGoogle
from tests.support.fake_service import EXECUTED, JOB, ended_job
from tests.support.lineage import event_of_task, names, parameters
from tests.support.notebooks import code, error, notebook, result
from tests.support.tasks import context_of, create_operator

SECRET = "of-the-lineage-test"
GOOD = notebook(code("40 + 2", result({"text/plain": "42"}), tags=("result",)))
EVENT = JobEvent(JOB, result=JobResult.from_job(ended_job(name=JOB), output_notebook_uri=EXECUTED)).to_payload()


@pytest.fixture
def google(monkeypatch):
    made = FakeGoogle(monkeypatch)
    made.service.executed = GOOD
    made.storage.put("gs://bucket/n.ipynb", notebook())
    return made


def warnings(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the warnings of the task and of OpenLineage's provider, but that of Airflow which a test causes."""
    lines = re.findall(r"\[(?:warning|error) *\] (.*(?:nbjob|openlineage).*)", capsys.readouterr().out)
    return [line for line in lines if "outside of the Task Runner" not in line]


def test_what_is_known_before_the_job():
    found = event_of_task(create_operator(parameters={"day": "today"}), "RUNNING")
    assert names(found["inputs"]) == [("gs://bucket", "n.ipynb")]
    assert found["outputs"] == []
    assert parameters(found) == {"day": "today"}
    assert JOB_FACET not in found["run"]["facets"]


def test_a_success(google):
    operator = create_operator()
    returned = operator.execute(context_of())
    found = event_of_task(operator, "SUCCESS")
    assert names(found["inputs"]) == [("gs://bucket", "n.ipynb")]
    assert names(found["outputs"]) == [("gs://bucket", returned["output_notebook_uri"].removeprefix("gs://bucket/"))]
    assert found["run"]["facets"][JOB_FACET]["name"] == returned["name"]
    assert found["run"]["facets"][JOB_FACET]["state"] == "JOB_STATE_SUCCEEDED"


def test_a_failure(google):
    google.service.course = ("FAILED",)
    google.service.executed = notebook(code("rows['west']", error("KeyError", "'west'", "Traceback: here")))
    operator = create_operator()
    with pytest.raises(JobFailed):
        operator.execute(context_of())
    found = event_of_task(operator, "FAILED")
    cell = found["run"]["facets"][JOB_FACET]["cell"]
    assert cell == {"number": 1, "ename": "KeyError", "evalue": "'west'", "traceback": "Traceback: here"}
    assert "Cell 1 raised KeyError: 'west'" in found["run"]["facets"]["errorMessage"]["message"]
    assert len(found["outputs"]) == 1


def test_a_job_that_was_never_submitted(google):
    google.service.fail("create", PermissionDenied("no"))
    operator = create_operator()
    with pytest.raises(ApiError):
        operator.execute(context_of())
    found = event_of_task(operator, "FAILED")
    assert "PERMISSION_DENIED" in found["run"]["facets"]["errorMessage"]["message"]
    assert JOB_FACET not in found["run"]["facets"]
    assert names(found["inputs"]) == [("gs://bucket", "n.ipynb")]


def test_a_task_that_goes_on_after_the_wait(google):
    operator, later, context = create_operator(deferrable=True), create_operator(deferrable=True), context_of()
    with pytest.raises(TaskDeferred):
        operator.execute(context)
    assert event_of_task(later, "RUNNING")["outputs"] == []
    later.resume_execution("execute_complete", {"event": EVENT}, context)
    found = event_of_task(later, "SUCCESS")
    assert found["run"]["facets"][JOB_FACET]["name"] == JOB
    assert names(found["outputs"]) == [("gs://bucket", EXECUTED.removeprefix("gs://bucket/"))]


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_event_of_an_outlet_has_the_result(google, deferrable):
    asset = Asset(name="report", uri="gs://bucket/report")
    operator, events = create_operator(deferrable=deferrable, outlets=[asset]), OutletEventAccessors()
    context = {**context_of(), "outlet_events": events}
    if deferrable:
        with pytest.raises(TaskDeferred):
            operator.execute(context)
        assert events[asset].extra == {}
        returned = operator.resume_execution("execute_complete", {"event": EVENT}, context)
    else:
        returned = operator.execute(context)
        assert returned["results"] == {"result": 42}
    assert events[asset].extra == {
        "job_name": returned["name"],
        "job_state": "JOB_STATE_SUCCEEDED",
        "output_notebook_uri": returned["output_notebook_uri"],
        "results": returned["results"],
    }


def test_a_result_that_is_too_large_for_an_event_is_in_xcom_only(google, capsys):
    text = "x" * (EXTRA_RESULTS_MAX_BYTES + 1)
    google.service.executed = notebook(code("text", result({"text/plain": repr(text)}), tags=("result",)))
    asset = Asset(name="report", uri="gs://bucket/report")
    operator, events = create_operator(outlets=[asset]), OutletEventAccessors()
    returned = operator.execute({**context_of(), "outlet_events": events})
    assert returned["results"] == {"result": text}
    assert events[asset].extra["results"] == {"result": None}
    assert "results['result']" in " ".join(warnings(capsys))


# --- hostile values ---


def test_an_error_of_megabytes_is_cut(google):
    google.service.course = ("FAILED",)
    google.service.changes = {"status": Status(code=2, message="x" * 3_000_000)}
    google.service.executed = notebook(code("f()", error("E", "v" * 3_000_000, "t" * 3_000_000)))
    operator = create_operator()
    with pytest.raises(JobFailed) as raised:
        operator.execute(context_of())
    assert len(str(raised.value)) < REASON_MAX + 2000  # OpenLineage's provider sends it, and a trace that ends with it
    assert len(json.dumps(event_of_task(operator, "FAILED"))) < REASON_MAX + EVALUE_MAX + 2 * TRACEBACK_MAX + 5000


@pytest.mark.parametrize("name", ["a#b?c=d%20e.ipynb", "ä ö.ipynb", "'\"\\<b>.ipynb"])
def test_a_notebook_of_an_odd_name_is_reported_by_it(google, name):
    operator = create_operator(gcs_notebook_source=f"gs://bucket/{name}")
    operator.execute(context_of())
    assert names(event_of_task(operator, "SUCCESS")["inputs"]) == [("gs://bucket", name)]


@pytest.mark.parametrize(
    "changes",
    [
        {"gcs_notebook_source": 7},
        {"parameters": "none"},
        {"parameters": {1: object(), "n": {2: 3}}},
        {"parameters": {"n": 10**6000, "f": float("nan")}},
    ],
)
def test_arguments_that_are_no_valid_ones_fail_no_report(changes, capsys):
    operator = create_operator()
    for name, value in changes.items():
        setattr(operator, name, value)
    event_of_task(operator, "RUNNING")
    event_of_task(operator, "FAILED")
    assert warnings(capsys) == []


def rendered(given: dict[str, Any]) -> Any:
    """Return an operator whose arguments Airflow has rendered."""
    with DAG("d", schedule=None):
        operator = create_operator(parameters=given)
    operator.render_template_fields(context_of(), operator.get_template_env())
    return operator


def test_secrets_among_the_parameters_are_not_there_while_others_look(google):
    operator = rendered({"api_token": SECRET, "command": f"curl -H {SECRET}", "n": 3})
    masked = {"api_token": "***", "command": "curl -H ***", "n": 3}
    assert operator.parameters == masked
    assert SECRET not in json.dumps(event_of_task(operator, "RUNNING"))
    operator.execute(context_of())
    assert SECRET in str(google.service.submitted[0].direct_notebook_source.content)
    assert operator.parameters == masked
    assert parameters(event_of_task(operator, "SUCCESS")) == {**masked, "n": "3"}


def test_parameters_without_secrets_stay_the_same_object(google):
    operator = rendered({"day": "2026-01-01"})
    before = operator.parameters
    operator.execute(context_of())
    assert operator.parameters is before


def test_parameters_that_user_code_sets_before_the_task_runs_are_kept(google):
    operator = rendered({"api_token": SECRET})
    operator.parameters = {"api_token": "another-one", "n": 5}
    operator.execute(context_of())
    assert "another-one" in str(google.service.submitted[0].direct_notebook_source.content)


def test_without_openlineage_parameters_stay_as_they_are(google, monkeypatch):
    monkeypatch.setattr("airflow_provider_nbjob.lineage.hidden_parameters.find_spec", lambda _: None)
    assert rendered({"api_token": SECRET}).parameters == {"api_token": SECRET}


# --- a provider that is not there, or broken ---


@pytest.mark.parametrize("what", ["no module", "an older client"])
def test_an_import_that_fails_is_one_warning(google, monkeypatch, capsys, what):
    monkeypatch.delitem(sys.modules, "airflow_provider_nbjob.lineage.events", raising=False)
    if what == "no module":
        monkeypatch.setitem(sys.modules, "airflow_provider_nbjob.lineage.events", None)
    else:
        monkeypatch.delattr("openlineage.client.facet_v2.execution_parameters_run")
    operator = create_operator()
    assert event_of_task(operator, "RUNNING")["inputs"] == []
    returned = operator.execute(context_of())
    assert returned["job_state"] == "JOB_STATE_SUCCEEDED"
    event_of_task(operator, "SUCCESS")
    (warning,) = warnings(capsys)
    assert "Nothing is reported to OpenLineage" in warning


def test_without_the_provider_the_task_runs(google, monkeypatch):
    monkeypatch.delitem(sys.modules, "airflow_provider_nbjob.lineage.events", raising=False)
    for name in [name for name in sys.modules if name.startswith(("openlineage", "airflow.providers.openlineage"))]:
        monkeypatch.setitem(sys.modules, name, None)
    operator = create_operator()
    assert operator.execute(context_of())["job_state"] == "JOB_STATE_SUCCEEDED"
    assert operator.get_openlineage_facets_on_complete(None) is None
