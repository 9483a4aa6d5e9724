"""What Airflow masks is masked in all that the provider logs, raises, pushes or sends in an event."""

from __future__ import annotations

import json
import logging
import pickle

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from google.api_core.exceptions import Forbidden, InvalidArgument, PermissionDenied

from airflow_provider_nbjob import outages
from airflow_provider_nbjob.exceptions import ApiError, InvalidJob, JobFailed, NotebookExecutionJobError
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.masking import mask_parameters
from airflow_provider_nbjob.operators.notebook_execution_job import (
    CreateNotebookExecutionJobOperator,
    GetNotebookExecutionJobOperator,
    ListNotebookExecutionJobsOperator,
)
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor
from airflow_provider_nbjob.triggers.notebook_execution_job import NotebookExecutionJobTrigger
from tests.support.fake_google import FakeGoogle, FakeWait
from tests.support.fake_service import EXECUTED, JOB, OUTPUT
from tests.support.notebooks import code, error, notebook, result, stream
from tests.support.running import event_of
from tests.support.tasks import make_context

SECRETS = {
    "plain": "canary-4711-plain",
    "lines": "-----BEGIN canary-4711-----\nMIIE-canary-4711-line\n-----END canary-4711-----",
    "quotes": "canary-4711-\"'\\quotes",
}
LOG = logging.getLogger("task")


@pytest.fixture(params=SECRETS)
def secret(request, airflow_masks) -> str:
    airflow_masks(SECRETS[request.param])
    return SECRETS[request.param]


def failing(secret: str) -> bytes:
    """Return a notebook in which a secret stands as it is, and as Python and JSON spell it."""
    return notebook(
        code(
            f"connect({secret!r})",
            stream(f"connecting with {secret}\nand {secret!r}\n"),
            error("ValueError", f"no access with {secret}", f"Traceback: connect({secret!r})", json.dumps(secret)),
        )
    )


def shown_by(raised: BaseException) -> str:
    return f"{raised}{raised!r}{vars(raised)}{getattr(raised, 'public', '')}"


def has_none(text: object) -> bool:
    return "canary-4711" not in str(text)


def operator(secret: str, **changes) -> CreateNotebookExecutionJobOperator:
    arguments = {
        "task_id": "run_notebook",
        "location": "us-central1",
        "direct_notebook_source": notebook(code("1")),
        "gcs_output_uri": OUTPUT,
        "notebook_runtime_template_resource_name": "t",
        "service_account": "sa@p.iam.gserviceaccount.com",
        "parameters": {"dsn": [{"url": f"db://{secret}@host"}]},
        "poll_interval": 0.01,
    }
    return CreateNotebookExecutionJobOperator(**{**arguments, **changes})


def test_a_failed_job_shows_no_secret(monkeypatch, secret, caplog, capsys):
    from google.rpc.status_pb2 import Status

    google = FakeGoogle(monkeypatch)
    google.service.course = ("FAILED",)
    google.service.executed = failing(secret)
    google.service.changes = {"status": Status(code=3, message=f"<p>it failed with {secret}</p>")}
    caplog.set_level(logging.INFO)
    context = make_context("r")
    task = operator(secret, log_output=True)
    with pytest.raises(JobFailed) as failed:
        task.execute(context)
    assert has_none(shown_by(failed.value))
    assert "***" in failed.value.evalue
    assert has_none(context["ti"].pushed)
    assert has_none(caplog.text + capsys.readouterr().out)


@pytest.mark.parametrize("mode", ["poke", "deferred"])
def test_a_sensor_shows_no_secret(monkeypatch, secret, caplog, capsys, mode):
    from google.rpc.status_pb2 import Status

    google = FakeWait(monkeypatch)
    google.storage.put(EXECUTED, failing(secret))
    google.service.put("FAILED", status=Status(code=3, message=secret))
    caplog.set_level(logging.INFO)
    context = make_context("r")
    mask_parameters([secret])  # as the task that submitted the job does
    sensor = NotebookExecutionJobSensor(task_id="run_notebook", notebook_execution_job=JOB, log_output=True)
    event = {"name": JOB, "outcome": "finished", "states": []}
    with pytest.raises(JobFailed) as failed:
        sensor.poke(context) if mode == "poke" else sensor.execute_complete(context, event)
    assert isinstance(failed.value, AirflowFailException)
    assert has_none(shown_by(failed.value))
    assert has_none(context["ti"].pushed)
    assert has_none(caplog.text + capsys.readouterr().out)


def test_results_of_get_and_list_show_no_secret(monkeypatch, secret):
    from google.rpc.status_pb2 import Status

    google = FakeWait(monkeypatch)
    google.service.put("FAILED", status=Status(code=3, message=secret), display_name=f"run with {secret}"[:128])
    got = GetNotebookExecutionJobOperator(task_id="t", notebook_execution_job=JOB).execute(make_context("r"))
    listed = ListNotebookExecutionJobsOperator(task_id="t", location="us-central1").execute(make_context("r"))
    assert has_none(got)
    assert has_none(listed)
    assert got["status"] == {"code": 3, "message": "***"}


def test_what_a_notebook_hands_out_is_its_authors(monkeypatch, secret):
    google = FakeGoogle(monkeypatch)
    google.service.executed = notebook(code("token", result({"application/json": secret}), tags=("result",)))
    assert operator(secret).execute(make_context("r"))["results"] == {"result": secret}


@pytest.mark.parametrize("error", [PermissionDenied("no access for {}"), Forbidden("{}"), InvalidArgument("x {}")])
def test_an_event_of_the_trigger_shows_no_secret(monkeypatch, secret, error):
    google = FakeWait(monkeypatch)
    google.service.put("RUNNING")
    google.service.fail("get", type(error)(error.message.format(secret)))
    monkeypatch.setattr(outages, "REFUSED_SECONDS", 0.0)
    event = event_of(NotebookExecutionJobTrigger(JOB, poll_interval=0.01))
    assert event["outcome"] == "error"
    assert has_none(event)


def test_what_the_worker_knows_is_masked_in_an_event_of_the_triggerer(monkeypatch, secret):
    FakeGoogle(monkeypatch)
    event = {"name": JOB, "outcome": "error", "message": f"no access for {secret}", "states": []}
    for task in (
        operator(secret, cancel_on_kill=False),
        NotebookExecutionJobSensor(task_id="t", schedule="7", location="us-central1"),
    ):
        with pytest.raises(NotebookExecutionJobError) as failed:
            task.execute_complete(make_context("r"), event)
        assert has_none(shown_by(failed.value))


def test_an_answer_of_the_api_shows_no_secret(monkeypatch, secret):
    google = FakeWait(monkeypatch)
    google.service.fail("get", PermissionDenied(f"no access for {secret}"))
    with pytest.raises(ApiError) as failed:
        NotebookExecutionJobHook().get_notebook_execution_job(name=JOB)
    assert has_none(shown_by(failed.value))


def test_an_answer_of_storage_shows_no_secret(monkeypatch, secret):
    mask_parameters([secret])  # the library quotes the answer
    google = FakeGoogle(monkeypatch)
    google.storage.fail("read", 403, f"no access for {secret}")
    with pytest.raises(NotebookExecutionJobError) as failed:
        NotebookExecutionJobHook().files.read_output_notebook(EXECUTED)
    assert has_none(shown_by(failed.value))


def test_bad_input_is_quoted_without_a_secret(monkeypatch, airflow_masks):
    FakeGoogle(monkeypatch)
    airflow_masks(SECRETS["plain"])
    with pytest.raises(InvalidJob) as refused:
        GetNotebookExecutionJobOperator(
            task_id="t", notebook_execution_job="x", location=f"us {SECRETS['plain']}"
        ).execute(make_context("r"))
    assert "location: 'us ***'" in str(refused.value)
    assert has_none(shown_by(refused.value))


@pytest.mark.parametrize("name", ["password", "api_key", "db_token"])
def test_a_parameter_with_the_name_of_a_secret_is_masked_in_the_log(monkeypatch, airflow_masks, name):

    google = FakeGoogle(monkeypatch)
    google.service.course = ("FAILED",)
    google.service.executed = failing(SECRETS["quotes"])
    context = make_context("r")
    task = operator("x", parameters={"nested": {name: [SECRETS["quotes"]]}})
    with pytest.raises(JobFailed) as failed:
        task.execute(context)
    assert has_none(shown_by(failed.value))
    assert has_none(context["ti"].pushed)
    assert pickle.loads(pickle.dumps(ApiError("x", "INTERNAL"))).code == "INTERNAL"
