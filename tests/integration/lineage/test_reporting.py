"""The reports of notebooks that a real kernel runs on the emulator, in events of OpenLineage's real provider."""

from __future__ import annotations

import uuid

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import Asset
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_nbjob.exceptions import JobFailed
from airflow_provider_nbjob.lineage.events import JOB_FACET
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from scripts.processes import BUCKET
from tests.support.lineage import event_of_task, facet, names
from tests.support.running import event_of
from tests.support.tasks import arguments, make_context

ASSET = Asset(name="sample", uri=f"gs://{BUCKET}/sample")


@pytest.fixture
def context():
    return {**make_context(f"run-{uuid.uuid4().hex}"), "outlet_events": OutletEventAccessors()}


def operator(**changes):
    return CreateNotebookExecutionJobOperator(**arguments(outlets=[ASSET], **changes))


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_notebook_that_runs(service, context, deferrable):
    task = operator(deferrable=deferrable)
    if deferrable:
        with pytest.raises(TaskDeferred) as deferred:
            task.execute(context)
        task = operator(deferrable=True)
        event = {"event": event_of(deferred.value.trigger)}
        returned = task.resume_execution("execute_complete", event, context)
    else:
        returned = task.execute(context)
    sent = event_of_task(task, "SUCCESS")
    assert names(sent["inputs"]) == [(f"gs://{BUCKET}", "notebooks/data_quality.ipynb")]
    written = returned["output_notebook_uri"].removeprefix(f"gs://{BUCKET}/")
    assert names(sent["outputs"]) == [(f"gs://{BUCKET}", written), (f"gs://{BUCKET}", "sample")]
    job = facet(sent, JOB_FACET)
    assert (job["name"], job["state"]) == (returned["name"], "JOB_STATE_SUCCEEDED")
    assert job["seconds"] > 0
    extra = context["outlet_events"][ASSET].extra
    assert extra == {
        "job_name": returned["name"],
        "job_state": "JOB_STATE_SUCCEEDED",
        "output_notebook_uri": returned["output_notebook_uri"],
        "results": {},
    }


def test_a_notebook_that_fails(service, context):
    task = operator(gcs_notebook_source=f"gs://{BUCKET}/notebooks/failing.ipynb", deferrable=False)
    with pytest.raises(JobFailed):
        task.execute(context)
    sent = event_of_task(task, "FAILED")
    cell = facet(sent, JOB_FACET)["cell"]
    assert (cell["number"], cell["ename"], cell["evalue"]) == (3, "KeyError", "'west'")
    assert "KeyError" in cell["traceback"]
    assert facet(sent, JOB_FACET)["state"] == "JOB_STATE_FAILED"
    assert len(names(sent["outputs"])) == 2
    assert context["outlet_events"][ASSET].extra == {}
