"""The hook against the emulator: every method, its errors, its retries."""

from __future__ import annotations

import itertools
import os
import time
import uuid

import nbformat
import pytest

from airflow_provider_nbjob.exceptions import ApiError, InvalidJob, JobLost, JobTimeout
from airflow_provider_nbjob.hooks.clients import notebook_service_client, resolve_endpoint
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.job import JobName, JobState, state_of
from airflow_provider_nbjob.job.spec import NotebookExecutionJobSpec
from airflow_provider_nbjob.lifecycle.outcome import error_of
from scripts.processes import BUCKET
from tests.support.patience import wait_until
from tests.support.tasks import LOCATION, api_job

CREATE, GET, LIST = ("CreateNotebookExecutionJob", "GetNotebookExecutionJob", "ListNotebookExecutionJobs")
SLEEPING = nbformat.writes(
    nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import time; time.sleep(3600)")])
).encode()


def new_id() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


def create(hook, job_id=None, **changes) -> str:
    return hook.create_notebook_execution_job(
        job=api_job(**changes), location=LOCATION, notebook_execution_job_id=job_id
    )


def create_sleeping(hook, **changes) -> str:
    return create(hook, gcs_notebook_source=None, direct_notebook_source={"content": SLEEPING}, **changes)


def wait_for_state(hook, name, state) -> None:
    wait_until(
        lambda: state_of(hook.get_notebook_execution_job(name=name)) is state, timeout=60, what=f"{name} {state}"
    )


def test_a_notebook_runs_and_its_output_is_found(hook):
    job_id = new_id()
    name = create(hook, job_id)
    job = hook.wait_for_notebook_execution_job(name=name, poll_interval=0.3)
    assert state_of(job) is JobState.SUCCEEDED
    result = hook.get_result(job)
    assert result.output_notebook_uri == f"gs://{BUCKET}/runs/{job_id}/data_quality.ipynb"
    executed = nbformat.reads(hook.files.read_output_notebook(result.output_notebook_uri).decode(), as_version=4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert any("outliers" in output.get("text", "") for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_the_api_mints_an_id_where_none_is_given(hook):
    name = JobName.parse(create_sleeping(hook))
    assert name.job_id.isdigit()
    assert name.project.isdigit()  # the API returns the project's number
    hook.cancel_notebook_execution_job(name=str(name))


def test_a_spec_is_validated_before_anything_is_sent(hook, service):
    with pytest.raises(InvalidJob) as error:
        hook.create_notebook_execution_job(job=NotebookExecutionJobSpec(location="mars"), location=LOCATION)
    assert len(error.value.problems) > 3
    assert CREATE not in service.calls()


def test_what_only_the_api_can_know_is_told_with_its_message(hook):
    template = api_job()["notebook_runtime_template_resource_name"].replace("/t", "/not-found")
    with pytest.raises(InvalidJob, match="not-found") as error:
        create(hook, notebook_runtime_template_resource_name=template)
    assert "NOT_FOUND" in str(error.value)
    with pytest.raises(InvalidJob, match=r"List of found errors:\s*1\.Field: .*display_name; Message:"):
        create(hook, display_name="x" * 129)


def test_an_unknown_nested_field_is_named(hook):
    with pytest.raises(InvalidJob, match="machine_kind"):
        create(
            hook,
            notebook_runtime_template_resource_name=None,
            custom_environment_spec={"machine_spec": {"machine_kind": "n1"}},
        )


def test_a_second_job_of_the_same_id_is_refused(hook):
    job_id = new_id()
    name = create_sleeping(hook, job_id=job_id)
    with pytest.raises(ApiError, match=job_id) as error:
        create_sleeping(hook, job_id=job_id)
    assert error.value.code == "ALREADY_EXISTS"
    hook.delete_notebook_execution_job(name=name)


@pytest.mark.parametrize("times", [1, 2])
def test_a_create_whose_answer_was_lost_is_one_job(hook, service, times):
    job_id = new_id()
    service.fault(CREATE, "UNAVAILABLE", times=times, drop_response=True)
    name = create_sleeping(hook, job_id=job_id)
    assert [job["name"] for job in service.jobs() if job["name"].endswith(job_id)] == [name]
    assert service.calls()[CREATE] == times + 1
    hook.cancel_notebook_execution_job(name=name)


def test_a_create_without_an_id_is_not_sent_again_when_it_may_have_been_performed(hook, service):
    before = {job["name"] for job in service.jobs()}
    service.fault(CREATE, "UNAVAILABLE", times=1, drop_response=True)
    with pytest.raises(ApiError):
        create_sleeping(hook)
    assert service.calls()[CREATE] == 1
    (orphan,) = [
        job
        for job in service.jobs()
        if job["name"] not in before
        and job["jobState"] in ("JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING")
    ]
    hook.cancel_notebook_execution_job(name=orphan["name"])


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "ABORTED"])
def test_transient_errors_are_retried(hook, service, code, capsys):
    name = create_sleeping(hook)
    service.fault(GET, code, times=2)
    assert hook.get_notebook_execution_job(name=name).name == name
    assert service.calls()[GET] == 3
    log = capsys.readouterr().out
    assert log.count("trying again") == 1
    assert "succeeded at attempt 3" in log


def test_expired_credentials_are_renewed_once(hook, service):
    name = create_sleeping(hook)
    service.fault(GET, "UNAUTHENTICATED", times=1)
    assert hook.get_notebook_execution_job(name=name).name == name
    service.fault(GET, "UNAUTHENTICATED")
    with pytest.raises(ApiError, match="UNAUTHENTICATED"):
        hook.get_notebook_execution_job(name=name)
    assert service.calls()[GET] == 4


@pytest.mark.parametrize(
    ("code", "kind"), [("PERMISSION_DENIED", ApiError), ("INVALID_ARGUMENT", InvalidJob), ("NOT_FOUND", JobLost)]
)
def test_other_errors_end_at_once(hook, service, code, kind):
    service.fault(GET, code)
    with pytest.raises(kind, match=code) as error:
        hook.get_notebook_execution_job(name="a-job", location=LOCATION)
    assert service.calls()[GET] == 1
    assert "projects/emulator-project/locations/us-central1/notebookExecutionJobs/a-job" in str(error.value)


def test_a_missing_job_is_lost(hook):
    with pytest.raises(JobLost, match="no-such-job"):
        hook.get_notebook_execution_job(name="no-such-job", location=LOCATION)
    with pytest.raises(JobLost):
        hook.delete_notebook_execution_job(name="no-such-job", location=LOCATION)


def test_a_bare_id_needs_a_location(hook):
    with pytest.raises(InvalidJob, match="location: required with the bare job id 'a-job'"):
        hook.get_notebook_execution_job(name="a-job")


def test_views(hook):
    name = create_sleeping(hook)
    assert hook.get_notebook_execution_job(name=name).direct_notebook_source.content == b""
    assert hook.get_notebook_execution_job(name=name, view="FULL").direct_notebook_source.content == SLEEPING
    hook.cancel_notebook_execution_job(name=name)


def test_listing_pages_lazily_and_never_asks_for_more_than_the_api_gives(hook, service):
    listed = f"listed {new_id()}"
    names = [
        create(hook, display_name=listed, notebook_runtime_template_resource_name=TEMPLATE_FAILS) for _ in range(5)
    ]
    service.reset()
    jobs = hook.list_notebook_execution_jobs(
        location=LOCATION, filter=f'displayName="{listed}"', order_by="create_time desc", page_size=2
    )
    assert [job.name for job in itertools.islice(jobs, 2)] == names[:-3:-1]
    assert service.calls()[LIST] == 1
    assert [job.name for job in jobs] == names[2::-1]
    assert service.calls()[LIST] == 3
    assert list(hook.list_notebook_execution_jobs(location=LOCATION, filter=f'displayName="{listed}"', page_size=5000))


TEMPLATE_FAILS = api_job()["notebook_runtime_template_resource_name"].replace("/t", "/fail-provisioning")


def test_a_filter_that_the_api_rejects_is_bad_input(hook):
    with pytest.raises(InvalidJob, match="jobState"):
        next(hook.list_notebook_execution_jobs(location=LOCATION, filter='jobState="JOB_STATE_FAILED"'))


@pytest.mark.parametrize("supported", [True, False])
def test_a_running_job_is_stopped(hook, service, supported):
    if not supported:
        service.fault("CancelOperation", "UNIMPLEMENTED")
    name = create_sleeping(hook)
    wait_for_state(hook, name, JobState.RUNNING)
    hook.cancel_notebook_execution_job(name=name)
    if supported:
        wait_for_state(hook, name, JobState.CANCELLED)
    else:
        with pytest.raises(JobLost):
            hook.get_notebook_execution_job(name=name)


def test_stopping_what_has_ended_or_is_gone_changes_nothing(hook, service):
    name = create(hook, notebook_runtime_template_resource_name=TEMPLATE_FAILS)
    job = hook.wait_for_notebook_execution_job(name=name, poll_interval=0.2)
    hook.cancel_notebook_execution_job(name=name)
    assert state_of(hook.get_notebook_execution_job(name=name)) is state_of(job) is JobState.FAILED
    hook.delete_notebook_execution_job(name=name)
    hook.cancel_notebook_execution_job(name=name)
    assert service.calls()["DeleteNotebookExecutionJob"] == 1


def test_no_output_where_the_machine_never_started(hook):
    name = create(hook, notebook_runtime_template_resource_name=TEMPLATE_FAILS)
    job = hook.wait_for_notebook_execution_job(name=name, poll_interval=0.2)
    result = hook.get_result(job)
    assert result.output_notebook_uri is None
    assert "<" not in result.status["message"]
    assert "never have started" in str(error_of(result))


def test_waiting_has_a_deadline(hook):
    name = create_sleeping(hook)
    with pytest.raises(JobTimeout, match=r"was JOB_STATE_\w+ at the deadline"):
        hook.wait_for_notebook_execution_job(name=name, poll_interval=0.2, end_time=time.time() + 1)
    hook.cancel_notebook_execution_job(name=name)


@pytest.mark.parametrize(
    "state", ["JOB_STATE_PAUSED", "JOB_STATE_UPDATING", "JOB_STATE_CANCELLING", "JOB_STATE_UNSPECIFIED"]
)
def test_a_state_that_is_no_end_is_waited_on(hook, service, state):
    name = create_sleeping(hook)
    service.force_state(JobName.parse(name).job_id, state)
    with pytest.raises(JobTimeout, match=state):
        hook.wait_for_notebook_execution_job(name=name, poll_interval=0.2, end_time=time.time() + 1)
    hook.delete_notebook_execution_job(name=name)


@pytest.mark.parametrize("state", [state for state in JobState if state.is_terminal])
def test_every_terminal_state_ends_the_wait(hook, service, state):
    name = create_sleeping(hook)
    service.force_state(JobName.parse(name).job_id, str(state))
    assert state_of(hook.wait_for_notebook_execution_job(name=name, poll_interval=0.2)) is state


def test_clients_are_shared_within_a_process(hook, service):
    endpoint = hook.get_endpoint(LOCATION)
    assert hook.get_conn(LOCATION) is NotebookExecutionJobHook().get_conn(LOCATION)
    notebook_service_client.forget(hook, endpoint)
    assert hook.get_conn(LOCATION) is not None


def test_a_changed_connection_gets_a_client_of_its_own(hook, monkeypatch):
    before = hook.get_conn(LOCATION)
    connection = os.environ["AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"].replace("emulator-project", "other-project")
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection)
    assert NotebookExecutionJobHook().get_conn(LOCATION) is not before


def test_where_requests_go(monkeypatch):
    monkeypatch.setenv("AIRFLOW__NBJOB__ALLOWED_API_ENDPOINTS", "api.example.com, localhost")
    monkeypatch.delenv("NBJOB_EMULATOR_HOST", raising=False)
    monkeypatch.delenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", raising=False)
    assert str(resolve_endpoint("us-west1", None)) == "us-west1-aiplatform.googleapis.com"
    assert resolve_endpoint("us-west1", "http://127.0.0.1:1/") == ("127.0.0.1:1", True)
    assert resolve_endpoint("us-west1", "https://api.example.com") == ("api.example.com", False)
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "apis.example.cloud")
    assert str(resolve_endpoint("us-west1", None)) == "us-west1-aiplatform.apis.example.cloud"
    monkeypatch.setenv("NBJOB_EMULATOR_HOST", "127.0.0.1:2")
    assert resolve_endpoint("us-west1", None) == ("127.0.0.1:2", True)
    assert resolve_endpoint("us-west1", "api.example.com") == ("api.example.com", False)


def test_plaintext_is_said_in_the_log(service, capsys, monkeypatch):
    hook = NotebookExecutionJobHook(api_endpoint=f"http://{service.exports['NBJOB_EMULATOR_HOST']}")
    monkeypatch.delenv("NBJOB_EMULATOR_HOST")
    notebook_service_client.forget(hook, hook.get_endpoint(LOCATION))
    with pytest.raises(JobLost):
        hook.get_notebook_execution_job(name="a-job", location=LOCATION)
    assert "in plaintext, without credentials" in capsys.readouterr().out


def test_no_notebook_content_is_logged(hook, capsys):
    secret = nbformat.writes(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("password = 'hunter2'; raise ValueError(password)")])
    ).encode()
    name = create(hook, gcs_notebook_source=None, direct_notebook_source={"content": secret})
    hook.get_result(hook.wait_for_notebook_execution_job(name=name, poll_interval=0.2))
    log = capsys.readouterr().out
    assert "is JOB_STATE_FAILED" in log
    assert "password =" not in log
