"""A job is a try's own only if it is the answer to a create that this try sent; a retry finds it, come what may.

The operator and the hook are the real ones; `FakeService` stands in for the API.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from google.api_core.exceptions import DeadlineExceeded, InternalServerError, ServiceUnavailable

from airflow_provider_nbjob import airflow_compat
from airflow_provider_nbjob.exceptions import ApiError, InvalidJob
from airflow_provider_nbjob.hooks import retrying
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.job.mark import MARK_LABEL, Mark
from airflow_provider_nbjob.lifecycle.tries import Tries
from tests.support.fake_google import FakeWait
from tests.support.fake_service import PARENT
from tests.support.patience import patient
from tests.support.tasks import context_of, create_operator


@pytest.fixture
def google(monkeypatch) -> FakeWait:
    return FakeWait(monkeypatch)


@pytest.fixture
def service(google, monkeypatch):
    monkeypatch.setattr(retrying, "RETRY_TOTAL", patient(5))
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    return google.service


def id_of(context, **options) -> str:
    return Tries.from_context(context, **options).job_id()


def name_of(job_id: str) -> str:
    return f"{PARENT}/notebookExecutionJobs/{job_id}"


def left_by_a_killed_worker(context, **changes) -> str:
    """Submit a job and leave it; return its id."""
    with pytest.raises(TaskDeferred) as deferral:
        create_operator(deferrable=True, **changes).execute(context)
    return deferral.value.trigger.name.rpartition("/")[2]


def submitted_ids(service) -> list[str]:
    return [job.name.rpartition("/")[2] for job in service.submitted]


# --- what has this try's id, but is not its own ---

OLD = {"display_name": "d.t r", "gcs_output_uri": "gs://bucket/runs", "service_account": "a@p.iam.gserviceaccount.com"}
FOUND = {
    "an old run's": {**OLD, "labels": {MARK_LABEL: Mark("0" * 12, "0" * 12, "0" * 8, "0" * 8, 0, 0).label}},
    "one without labels": OLD,
    "a stranger's": {"display_name": "somebody else's"},
    "one with a mark that cannot be read": {**OLD, "labels": {MARK_LABEL: "???"}},
    "one of the future, by this machine's clock": {
        **OLD,
        "create_time": datetime.now(timezone.utc) + timedelta(hours=1),
    },
}


@pytest.mark.parametrize("state", ["SUCCEEDED", "RUNNING", "FAILED"])
@pytest.mark.parametrize("found", FOUND)
def test_a_job_that_this_try_did_not_submit_is_left_alone(service, capsys, state, found):
    context = context_of()
    taken = service.put(state, name=name_of(id_of(context)), **FOUND[found])
    result = create_operator().execute(context)
    assert result["name"] != taken
    assert submitted_ids(service) == [result["job_id"]]
    assert service.jobs[taken][0].job_state.name == f"JOB_STATE_{state}"
    assert not service.has_been_told_to_stop()
    printed = capsys.readouterr().out
    assert "this try did not submit it" in printed
    assert result["job_id"] in printed


@pytest.mark.parametrize(
    ("state", "is_taken_over"),
    [("SUCCEEDED", True), ("RUNNING", True), ("FAILED", True), ("EXPIRED", True), ("CANCELLED", False)],
)
def test_a_try_that_airflow_runs_again_goes_on_with_its_job_unless_it_was_stopped(service, state, is_taken_over):
    """Airflow 3.3.2 did so on a machine whose load was 10, after the first process had deferred."""
    service.course = (state,)
    context = context_of()
    first = left_by_a_killed_worker(context)
    second = left_by_a_killed_worker(context)
    assert (second == first) is is_taken_over
    assert len(service.submitted) == 1 + (not is_taken_over)
    assert not service.has_been_told_to_stop()


def test_a_run_made_again_with_the_same_start_runs_anew(service):
    """`airflow dags test` on a date deletes the run and makes it again: same run id, same start, same try number."""
    first = create_operator().execute(context_of())
    second = create_operator().execute(context_of())
    assert first["job_id"] != second["job_id"]
    assert len(service.submitted) == 2


def test_a_retry_in_a_run_made_again_takes_no_old_result(service):
    create_operator().execute(context_of(retries=1, run={"run_after": datetime(2026, 1, 2, tzinfo=timezone.utc)}))
    result = create_operator().execute(context_of(2, retries=1))
    assert result["job_id"].endswith("-2")


def test_a_retry_finds_the_job_that_had_to_take_another_id(service):
    first = context_of(retries=1)
    taken = service.put("RUNNING", name=name_of(id_of(first)), **FOUND["a stranger's"])
    beside = left_by_a_killed_worker(first)
    result = create_operator().execute(context_of(2, retries=1))
    assert result["job_id"] == beside
    assert len(service.submitted) == 1
    assert not service.has_been_told_to_stop()
    assert taken in service.jobs


@pytest.mark.parametrize("deferrable", [False, True])
def test_tasks_test_runs_a_job_of_its_own_and_touches_none(service, capsys, monkeypatch, deferrable):
    real = context_of(2, retries=1)
    running = left_by_a_killed_worker(context_of(1, retries=1))
    service.put("SUCCEEDED", name=name_of(id_of(real)))
    monkeypatch.setenv("AIRFLOW_TEST_MODE", "True")
    monkeypatch.setattr(airflow_compat, "runs_in_process", lambda: True)
    assert airflow_compat.is_tasks_test()
    ids = set()
    for _ in range(2):  # in the same second, too
        operator = create_operator(deferrable=deferrable)
        try:
            job_id = operator.execute(real)["job_id"]
        except TaskDeferred as deferral:
            event = {"name": deferral.trigger.name, "job_state": "JOB_STATE_SUCCEEDED", "outcome": "finished"}
            job_id = create_operator(deferrable=True).execute_complete(real, event)["job_id"]
        ids.add(job_id)
    assert len(ids) == 2
    assert ids.isdisjoint({running, id_of(real)})
    assert not service.has_been_told_to_stop()
    assert id_of(real) in capsys.readouterr().out
    assert not [job_id for job_id in ids if Tries.from_context(context_of(9, retries=8)).is_earlier(job_id)]


# --- what is its own ---


@pytest.mark.parametrize("error", [ServiceUnavailable, DeadlineExceeded, InternalServerError])
@pytest.mark.parametrize("course", [("SUCCEEDED",), ("RUNNING", "SUCCEEDED")])
def test_a_lost_answer_is_no_second_job(service, error, course):
    service.course = course
    service.lose("create", error("lost"), times=2)
    result = create_operator().execute(context_of())
    assert submitted_ids(service) == [result["job_id"]]
    assert result["job_id"] == id_of(context_of())


@pytest.mark.parametrize("hours", [-24, -1, 1, 24])
def test_the_clocks_difference_decides_nothing(service, hours):
    service.changes = {"create_time": datetime.now(timezone.utc) + timedelta(hours=hours)}
    service.lose("create", ServiceUnavailable("lost"), times=1)
    assert create_operator().execute(context_of())["job_id"] == id_of(context_of())
    assert len(service.submitted) == 1


def test_a_lost_answer_is_recognized_without_labels(service):
    """The API has been seen to replace a job's labels by those of its template."""
    service.changes = {"labels": {}}
    service.lose("create", ServiceUnavailable("lost"), times=1)
    assert create_operator().execute(context_of())["job_id"] == id_of(context_of())
    assert len(service.submitted) == 1


@pytest.mark.parametrize("has_id", [True, False])
def test_processes_that_run_the_same_try_end_on_one_job(service, has_id):
    context = context_of()
    if not has_id:
        del context["ti"].id
    service.course = ("RUNNING",)
    barrier = threading.Barrier(2)
    service.before = lambda method: method == "create" and barrier.wait(patient(20))
    names = []

    def submit():
        try:
            create_operator(deferrable=True).execute(context)
        except TaskDeferred as deferral:
            names.append(deferral.trigger.name)

    threads = [threading.Thread(target=submit) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patient(30))
    assert names == [job.name for job in service.submitted] * 2


# --- retries, edited while the task runs ---


@pytest.mark.parametrize(
    ("tries", "retries_now"),
    [
        ([{"retries": 2}], 0),
        ([{"retries": 2}], 1),
        ([{"retries": 2}], None),
        ([{"retries": 1}], 5),
        ([{"retries": 1}], 1),
        ([{"retries": 3}, {"retries": 1, "max_tries": 3}], 0),  # lowered twice
    ],
)
@pytest.mark.parametrize("map_index", [-1, 0, 7])
def test_a_retry_goes_on_with_the_job_whatever_retries_has_become(service, tries, retries_now, map_index):
    service.course = ("RUNNING", "RUNNING", "RUNNING", "SUCCEEDED")
    left = {
        left_by_a_killed_worker(context_of(n, map_index=map_index, **changes)) for n, changes in enumerate(tries, 1)
    }
    max_tries = tries[0]["retries"]
    now = context_of(len(tries) + 1, retries=retries_now, max_tries=max_tries, map_index=map_index)
    result = create_operator().execute(now)
    assert {result["job_id"]} == left
    assert len(service.submitted) == 1
    assert not service.has_been_told_to_stop()


@pytest.mark.parametrize(
    "cleared",
    [
        {"retries": 2, "max_tries": 3, "run": {"clear_number": 1}},
        {"retries": 0, "max_tries": 1, "run": {"clear_number": 1}},  # and `retries` was lowered
        {"retries": 1, "max_tries": 2, "run": {"clear_number": 1}},  # by the number of tries
        {"retries": 5, "max_tries": 6, "run": {"clear_number": 1}},
        {"retries": 2, "max_tries": 3},  # as Airflow 3.1 tells it of a run that goes on
    ],
)
def test_a_clear_asks_for_a_new_job_whatever_retries_has_become(service, cleared):
    left = left_by_a_killed_worker(context_of(1, retries=2))
    service.put("SUCCEEDED", name=name_of(left), labels=service.jobs[name_of(left)][0].labels)
    result = create_operator().execute(context_of(2, **cleared))
    assert result["job_id"].endswith("-2")


def test_a_retry_after_a_clear_goes_on_with_what_came_after_it(service):
    service.course = ("RUNNING",)
    old = left_by_a_killed_worker(context_of(1, retries=2))
    after = {"max_tries": 3, "run": {"clear_number": 1}}
    new = left_by_a_killed_worker(context_of(2, retries=2, **after))
    assert service.jobs[name_of(old)][0].job_state.name == "JOB_STATE_CANCELLED"
    again = left_by_a_killed_worker(context_of(3, retries=0, **after))
    assert again == new != old


def test_the_clear_of_another_task_changes_nothing(service):
    left = left_by_a_killed_worker(context_of(1, retries=2))
    result = create_operator().execute(context_of(2, retries=2, run={"clear_number": 3}))
    assert result["job_id"] == left


# --- ids of the user's own ---


def test_an_own_id_is_numbered_by_try(service):
    own = {"notebook_execution_job_id": "train-1"}
    service.course = ("FAILED",)
    with pytest.raises(Exception, match="ended as JOB_STATE_FAILED"):
        create_operator(**own).execute(context_of(1, retries=1))
    service.course = ("SUCCEEDED",)
    assert create_operator(**own).execute(context_of(2, retries=1))["job_id"] == "train-1-2"
    cleared = context_of(3, retries=1, max_tries=3, run={"clear_number": 1})
    assert create_operator(**own).execute(cleared)["job_id"] == "train-1-3"


@pytest.mark.parametrize("retries_now", [2, 0])
def test_an_own_id_is_adopted_by_a_retry(service, retries_now):
    own = {"notebook_execution_job_id": "train-1"}
    assert left_by_a_killed_worker(context_of(1, retries=2), **own) == "train-1"
    result = create_operator(**own).execute(context_of(2, retries=retries_now, max_tries=2))
    assert result["job_id"] == "train-1"
    assert len(service.submitted) == 1


def test_the_answer_of_an_own_id_may_be_lost(service):
    service.lose("create", ServiceUnavailable("lost"), times=1)
    result = create_operator(notebook_execution_job_id="train-1").execute(context_of())
    assert submitted_ids(service) == [result["job_id"]] == ["train-1"]


@pytest.mark.parametrize("found", ["one without labels", "a stranger's"])
@pytest.mark.parametrize("state", ["RUNNING", "SUCCEEDED"])
def test_an_own_id_that_is_taken_is_said_to_be_so(service, found, state):
    service.put(state, name=name_of("train-1"), **FOUND[found])
    with pytest.raises(InvalidJob, match=r"notebook_execution_job_id: 'train-1' is taken: .*JOB_STATE_") as error:
        create_operator(notebook_execution_job_id="train-1").execute(context_of(retries=1))
    assert "ALREADY_EXISTS" not in str(error.value)
    assert FOUND[found]["display_name"] in str(error.value)
    assert not service.submitted
    assert not service.has_been_told_to_stop()


def test_an_own_id_of_another_run_is_taken(service):
    own = {"notebook_execution_job_id": "train-1"}
    create_operator(**own).execute(context_of())
    with pytest.raises(InvalidJob, match="is taken"):
        create_operator(**own).execute(context_of(run_id="another"))


def test_an_own_id_of_an_earlier_start_of_the_run_gets_another_one(service, capsys):
    own = {"notebook_execution_job_id": "train-1"}
    create_operator(**own).execute(context_of())
    result = create_operator(**own).execute(context_of(run={"start_date": datetime.now(timezone.utc)}))
    assert result["job_id"].startswith("train-1-x")
    assert "this try did not submit it" in capsys.readouterr().out


def test_the_id_of_one_instance_of_a_mapped_task_is_not_that_of_another(service):
    own = {"notebook_execution_job_id": "train"}
    service.course = ("RUNNING",)
    left_by_a_killed_worker(context_of(map_index=0), **own)
    with pytest.raises(InvalidJob, match="is taken"):
        create_operator(**own).execute(context_of(map_index=1))
    assert len(service.submitted) == 1
    assert not service.has_been_told_to_stop()


# --- the hook alone ---


def created(**options) -> str:
    job = {"display_name": "a report", "gcs_output_uri": "gs://bucket/runs"}
    options = {"notebook_execution_job_id": "j1", **options}
    return NotebookExecutionJobHook().create_notebook_execution_job(job=job, location="us-central1", **options)


@pytest.mark.parametrize("default_labels", [True, False])
def test_the_hook_recognizes_its_own_job(service, default_labels):
    service.lose("create", ServiceUnavailable("lost"), times=1)
    assert created(default_labels=default_labels) == name_of("j1")
    assert bool(service.jobs[name_of("j1")][0].labels) is default_labels


@pytest.mark.parametrize("changes", [{}, {"create_time": datetime(2020, 1, 1, tzinfo=timezone.utc)}])
@pytest.mark.parametrize("fails_first", [False, True])
def test_the_hook_takes_no_job_that_was_there_before(service, fails_first, changes):
    service.put("RUNNING", name=name_of("j1"), labels={MARK_LABEL: "0" * 12}, **changes)
    if fails_first:
        service.fail("create", ServiceUnavailable("not now"), times=1)
    with pytest.raises(ApiError) as error:
        created()
    assert error.value.code == "ALREADY_EXISTS"
