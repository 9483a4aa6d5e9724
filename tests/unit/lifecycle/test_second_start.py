"""A worker that goes on after the wait, and is told what the job came to: it asks nobody, and loads nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred, XCom

from airflow_provider_nbjob.connection import Connection
from airflow_provider_nbjob.exceptions import ConnectionUnavailable, JobTimeout
from airflow_provider_nbjob.job import JobResult
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor
from airflow_provider_nbjob.triggers.event import JobEvent
from tests.support.fake_google import FakeWait
from tests.support.fake_service import EXECUTED, JOB, ended_job
from tests.support.notebooks import code, error, notebook, result
from tests.support.paths import CHECKOUT
from tests.support.running import events_of, made_again, run
from tests.support.tasks import context_of, create_operator

GOOD = notebook(code("40 + 2", result({"text/plain": "42"}), tags=("result",)))
RAISED = notebook(code("rows['west']", error("KeyError", "'west'")))
EVENT = JobEvent(JOB, result=JobResult.from_job(ended_job(name=JOB), output_notebook_uri=EXECUTED)).to_payload()


@pytest.fixture
def google(monkeypatch):
    return FakeWait(monkeypatch)


@pytest.fixture
def kept(monkeypatch) -> dict[str, Any]:
    """The XComs that a triggerer sets."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(XCom, "set", lambda key, value, **_: found.update({key: value}))
    return found


def task(kind: str, **changes: Any) -> Any:
    if kind == "operator":
        return create_operator(deferrable=True, **changes)
    name = {"notebook_execution_job": JOB, "poke_interval": 0.01}
    return NotebookExecutionJobSensor(**{"task_id": "t", "deferrable": True, **name, **changes})


def deferred(made: Any, context: Any, *, tells: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the event and the further arguments of a task that was deferred, and whose job has ended since.

    :param tells: whether the triggerer may say what the job came to
    """
    with pytest.raises(TaskDeferred) as raised:
        made.execute(context)
    trigger = made_again(raised.value.trigger)
    trigger.task_instance = context["ti"] if tells else None
    (event,) = run(events_of(trigger))
    assert ("result" in event) is tells
    return json.loads(json.dumps(event)), raised.value.kwargs or {}


def resumed(made: Any, context: Any, event: Any, kwargs: Any) -> Any:
    return made.execute_complete(context, event, **kwargs)


@pytest.fixture
def context():
    made = context_of()
    made["ti"].get_first_reschedule_date = lambda _: None
    return made


def started(google: FakeWait, kind: str) -> None:
    google.service.executed = GOOD
    if kind == "sensor":
        google.service.put("RUNNING", "RUNNING", "SUCCEEDED")
        google.storage.put(EXECUTED, GOOD)
    else:
        google.service.course = ("RUNNING", "SUCCEEDED")


@pytest.mark.parametrize("kind", ["operator", "sensor"])
def test_it_asks_nobody(google, context, kept, monkeypatch, kind):
    started(google, kind)
    event, kwargs = deferred(task(kind), context)
    (record,) = kept.values()
    google.service.calls.clear()
    google.storage.requests.clear()
    context["ti"].pushed.clear()
    monkeypatch.setattr(Connection, "make_hook", lambda _: pytest.fail("a hook was made"))
    returned = resumed(task(kind), context, event, kwargs)
    assert returned["results"] == {"result": 42}
    assert not google.service.calls
    assert not google.storage.requests
    assert set(context["ti"].pushed) == {"output_notebook_uri", "job_state", "results"}
    assert record["job_state"] == returned["job_state"] == "JOB_STATE_SUCCEEDED"
    assert record["name"] == returned["name"]


@pytest.mark.parametrize("kind", ["operator", "sensor"])
def test_it_returns_what_it_would_find_out_itself(google, context, kept, kind):
    started(google, kind)
    event, kwargs = deferred(task(kind), context)
    told = resumed(task(kind), context, event, kwargs)
    pushed = dict(context["ti"].pushed)
    record = kept.pop("notebook_execution_job")
    del event["result"]
    assert resumed(task(kind), context, event, kwargs) == told
    assert {**pushed, "notebook_execution_job": record} == context["ti"].pushed


@pytest.mark.parametrize("kind", ["operator", "sensor"])
def test_an_end_that_is_to_be_told_is_told_by_the_worker(google, context, kept, capsys, kind):
    started(google, kind)
    google.service.executed = RAISED
    google.storage.put(EXECUTED, RAISED)
    event, kwargs = deferred(task(kind), context, tells=False)
    capsys.readouterr()
    resumed(task(kind), context, event, kwargs)
    assert "cell 1 raised KeyError" in capsys.readouterr().out


def test_a_retry_still_stops_what_an_earlier_try_left(google, kept):
    context = context_of(2, retries=1)
    google.service.course = ("RUNNING", "SUCCEEDED")
    google.service.executed = GOOD
    made = create_operator(deferrable=True, retries=1)
    event, kwargs = deferred(made, context)
    google.service.calls.clear()
    assert resumed(made, context, event, kwargs)["results"] == {"result": 42}
    assert google.service.calls["get"]  # it looks for the job of the first try


def test_a_secret_of_the_parameters_is_masked_in_what_the_triggerer_could_not_know(google, context, kept, monkeypatch):
    monkeypatch.setattr("airflow_provider_nbjob.triggers.event.redact", _without_secret)
    google.service.executed = GOOD
    made = create_operator(deferrable=True, display_name="of hunter2")
    event, kwargs = deferred(made, context)
    assert "hunter2" not in repr(resumed(made, context, event, kwargs))


def _without_secret(value: Any) -> Any:
    return json.loads(json.dumps(value).replace("hunter2", "***"))


PROGRAM = f"""
import sys
from types import SimpleNamespace
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor
from tests.support.tasks import REQUIRED, context_of

context, event = context_of(), {dict(EVENT)!r}
for made in (
    CreateNotebookExecutionJobOperator(**REQUIRED, deferrable=True, parameters={{"password": "x"}}),
    NotebookExecutionJobSensor(task_id="t", notebook_execution_job={JOB!r}, deferrable=True),
):
    returned = made.execute_complete(context, event)
    assert returned["job_state"] == "JOB_STATE_SUCCEEDED", returned
not_loaded = ("airflow.providers.google.c", "google.a", "google.cloud.", "google.protobuf", "googleapiclient", "grpc")
print("loaded:", *(name for name in sys.modules if name.startswith(not_loaded)))
"""


def test_it_loads_nothing_of_googles():
    command = [sys.executable, "-c", PROGRAM]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1].split() == ["loaded:"]


def test_the_error_that_is_told_is_not_that_of_stopping_the_job(monkeypatch, capsys):
    def fail(_: Any) -> Any:
        raise ConnectionUnavailable("no secrets backend", "UNAVAILABLE")

    monkeypatch.setattr(Connection, "make_hook", fail)
    event = JobEvent(JOB, "timeout", message="not ended by the deadline").to_payload()
    with pytest.raises(JobTimeout, match="not ended by the deadline"):
        create_operator(deferrable=True).execute_complete(context_of(), event)
    assert "no secrets backend\nThis command stops it: gcloud colab executions delete j1" in capsys.readouterr().out
