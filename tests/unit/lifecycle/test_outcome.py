"""How the end of a job is judged, what its task logs and returns, and which exception it raises."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_nbjob.exceptions import (
    InvalidJob,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobTimeout,
    NotebookExecutionJobError,
    OutputUnavailable,
)
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.job import JobResult
from airflow_provider_nbjob.job.record import JobEnd
from airflow_provider_nbjob.lifecycle.outcome import Conclusion, conclusion_arguments, conclusion_for
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor
from tests.support.fake_google import FakeGoogle
from tests.support.fake_service import EXECUTED, OUTPUT, ended_job
from tests.support.notebooks import code, error, notebook, result, scrap, stream
from tests.support.tasks import arguments, make_context

LOG = logging.getLogger("task")  # what others log at the same time, such as Airflow, is no concern of these tests
VALUE = code("40 + 2", result({"text/plain": "42"}), tags=("result",))
ALLOWED = code("raise Known", error("Known", "may be"), tags=("raises-exception",))
RAISING = code(
    ["rows = {}\n", "rows['west']"], stream("before\n"), error("KeyError", "'west'", "\x1b[31mTraceback\x1b[0m", "end")
)
GOOD, BAD = notebook(VALUE), notebook(VALUE, ALLOWED, RAISING, code("print('never')"))
UNKNOWN = 99  # a state that the client library has no name for

pytestmark = pytest.mark.filterwarnings("ignore:Unrecognized JobState")


@pytest.fixture
def google(monkeypatch) -> FakeGoogle:
    return FakeGoogle(monkeypatch)


@pytest.fixture(autouse=True)
def everything_is_logged(caplog):
    caplog.set_level(logging.INFO)


def conclude(job: Any, ends: list[JobEnd] | None = None, **how: Any) -> JobResult:
    note = {} if ends is None else {"note": ends.append}
    return Conclusion(**how).of(NotebookExecutionJobHook(), job, LOG, **note)


def logged(caplog: pytest.LogCaptureFixture, level: int = logging.NOTSET) -> list[str]:
    """What the task's log shows."""
    return [record.getMessage() for record in caplog.records if record.name == LOG.name and record.levelno >= level]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return logged(caplog, logging.WARNING)


# --- success ---


def test_a_success_has_its_results_and_its_notebook(google, caplog):
    google.storage.put(EXECUTED, notebook(VALUE, code("glue", scrap("auc", 0.5)), ALLOWED))
    ends: list[JobEnd] = []
    done = conclude(ended_job(), ends)
    told = done.to_xcom()
    assert told["results"] == {"result": 42, "auc": 0.5}
    assert told["output_notebook_uri"] == EXECUTED
    assert told["job_state"] == "JOB_STATE_SUCCEEDED"
    assert json.loads(json.dumps(told)) == told
    assert [(end.result.job_id, end.failed_cell) for end in ends] == [("j1", None)]
    assert logged(caplog) == []


def test_a_success_that_wrote_no_notebook_has_no_results(google, caplog):
    done = conclude(ended_job())
    assert (done.output_notebook_uri, done.output_error, done.results) == (None, None, {})
    assert warnings(caplog) == []


def test_a_notebook_is_read_only_if_somebody_asks_for_something_in_it(google):
    google.storage.put(EXECUTED, BAD)
    done = conclude(ended_job(), collect_results=False)
    assert (done.output_notebook_uri, done.results) == (EXECUTED, {})
    assert [request for request in google.storage.requests if EXECUTED in request] == []


@pytest.mark.parametrize(
    "how",
    [
        {"collect_results": True},
        {"collect_results": False, "log_output": True},
        {"collect_results": True, "log_output": True},
        {"collect_results": True, "log_output": True, "fail_on_cell_error": True},
    ],
)
def test_a_notebook_is_read_once(google, how):
    google.storage.put(EXECUTED, GOOD)
    done = conclude(ended_job(), **how)
    assert done.results == ({"result": 42} if how["collect_results"] else {})
    assert google.storage.requests.count(f"get {EXECUTED}") == 1


def test_results_that_are_too_large_say_where_they_are(google, caplog):
    large = code("'x' * 2000", result({"text/plain": "'" + "x" * 2000 + "'"}), tags=("result:large",))
    google.storage.put(EXECUTED, notebook(VALUE, large))
    assert conclude(ended_job(), result_max_bytes=1000).results == {"result": 42, "large": None}
    (warning,) = warnings(caplog)
    assert warning.startswith("results['large'] is dropped: it has 2002 bytes")
    assert warning.endswith(f"; hook.files.read_output_notebook({EXECUTED!r}) has it")


# --- the outputs in the log ---


def test_outputs_are_logged_where_asked_for(google, caplog):
    google.storage.put(EXECUTED, notebook(code("print('hello')", stream("hello\nworld\n")), code("pass"), VALUE))
    conclude(ended_job(), log_output=True)
    assert logged(caplog) == [
        "::group::Output of cell 1",
        "  hello",
        "  world",
        "::endgroup::",
        "::group::Output of cell 3",
        "  42",
        "::endgroup::",
    ]


@pytest.mark.parametrize("log_output", [False, True])
def test_outputs_of_a_failed_job_are_logged_too(google, caplog, log_output):
    google.storage.put(EXECUTED, BAD)
    with pytest.raises(JobFailed):
        conclude(ended_job("FAILED"), log_output=log_output)
    assert ("  before" in logged(caplog)) is log_output


def test_an_output_cannot_end_its_group_nor_fake_a_line(google, caplog):
    hostile = "::endgroup::\n##[endgroup]\n\x1b[2Jcleared\roverwritten\n%s %d {x}\n\u2028fake\n"
    google.storage.put(EXECUTED, notebook(code("print()", stream(hostile))))
    conclude(ended_job(), log_output=True)
    first, *shown, last = logged(caplog)
    assert (first, last) == ("::group::Output of cell 1", "::endgroup::")
    assert not [line for line in shown if "::endgroup::" in line or "##[" in line or "\x1b" in line or "\n" in line]
    assert "  overwritten" in shown
    assert "  %s %d {x}" in shown


# --- failure ---


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("FAILED", JobFailed),
        ("PARTIALLY_SUCCEEDED", JobFailed),
        ("CANCELLED", JobCancelled),
        ("EXPIRED", JobExpired),
        ("RUNNING", JobFailed),
        ("PAUSED", JobFailed),
        ("UNSPECIFIED", JobFailed),
        (UNKNOWN, JobFailed),
    ],
)
def test_every_other_end_is_an_error_of_its_own(google, state, expected):
    ends: list[JobEnd] = []
    with pytest.raises(expected) as raised:
        conclude(ended_job(state, "out of <b>quota</b>", 8), ends)
    assert type(raised.value) is expected
    text = str(raised.value)
    assert f"Notebook job j1 ended as JOB_STATE_{state}." in text
    assert "Reason: out of quota (code 8)" in text
    assert f"No executed notebook was written below {OUTPUT}" in text
    assert "console.cloud.google.com/logs" in text
    assert [str(end.result.job_state) for end in ends] == [f"JOB_STATE_{state}"]


@pytest.mark.parametrize("collect_results", [False, True])
def test_a_failed_job_names_its_failing_cell(google, caplog, collect_results):
    google.storage.put(EXECUTED, BAD)
    ends: list[JobEnd] = []
    with pytest.raises(JobFailed) as raised:
        conclude(ended_job("FAILED", "the notebook failed", 13), ends, collect_results=collect_results)
    failed = raised.value
    assert (failed.cell, failed.ename, failed.evalue, failed.traceback) == (3, "KeyError", "'west'", "Traceback\nend")
    assert "Cell 3 raised KeyError: 'west'" in str(failed)
    assert f"The executed notebook shows where: {EXECUTED}" in str(failed)
    assert logged(caplog) == [
        "::group::Cell 3 failed: KeyError: 'west'",
        "Cell 3 of 4, execution 1:",
        "  | rows = {}",
        "  | rows['west']",
        "It raised:",
        "  KeyError: 'west'",
        "Traceback:",
        "  Traceback",
        "  end",
        "::endgroup::",
    ]
    (end,) = ends
    assert end.to_xcom()["failed_cell"] == {"number": 3, "ename": "KeyError", "evalue": "'west'"}


def test_a_failed_job_without_a_failing_cell(google, caplog):
    google.storage.put(EXECUTED, notebook(VALUE, ALLOWED))
    with pytest.raises(JobFailed) as raised:
        conclude(ended_job("FAILED", "the machine was lost"))
    assert (raised.value.cell, raised.value.ename) == (None, None)
    assert f"The executed notebook shows where: {EXECUTED}" in str(raised.value)
    assert logged(caplog) == []


def test_a_cancelled_job_shows_the_cell_that_was_interrupted(google, caplog):
    google.storage.put(EXECUTED, notebook(code("sleep()", error("KeyboardInterrupt", ""))))
    with pytest.raises(JobCancelled, match="Cell 1 raised KeyboardInterrupt"):
        conclude(ended_job("CANCELLED"))
    assert "::group::Cell 1 failed: KeyboardInterrupt:" in logged(caplog)


def test_partial_success_is_one_where_it_is_accepted(google, caplog):
    google.storage.put(EXECUTED, BAD)
    done = conclude(ended_job("PARTIALLY_SUCCEEDED"), accept_partial_success=True)
    assert (str(done.job_state), done.results) == ("JOB_STATE_PARTIALLY_SUCCEEDED", {"result": 42})
    assert warnings(caplog) == ["The job ended as JOB_STATE_PARTIALLY_SUCCEEDED, but cell 3 raised KeyError"]


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "EXPIRED", "RUNNING", UNKNOWN])
def test_no_other_end_is_taken_for_partial_success(google, state):
    with pytest.raises((JobFailed, JobCancelled, JobExpired)):
        conclude(ended_job(state), accept_partial_success=True)


@pytest.mark.parametrize("collect_results", [False, True])
def test_a_cell_that_raised_in_a_success_is_a_warning(google, caplog, collect_results):
    google.storage.put(EXECUTED, BAD)
    ends: list[JobEnd] = []
    done = conclude(ended_job(), ends, collect_results=collect_results, log_output=True)
    assert done.results == ({"result": 42} if collect_results else {})
    assert warnings(caplog) == ["The job ended as JOB_STATE_SUCCEEDED, but cell 3 raised KeyError"]
    assert "::group::Cell 3 failed: KeyError: 'west'" in logged(caplog)
    assert ends[0].failed_cell.number == 3


@pytest.mark.parametrize("state", ["SUCCEEDED", "PARTIALLY_SUCCEEDED"])
@pytest.mark.parametrize("collect_results", [False, True])
def test_a_cell_that_raised_fails_the_task_where_asked_for(google, state, collect_results):
    google.storage.put(EXECUTED, BAD)
    how = {"fail_on_cell_error": True, "collect_results": collect_results, "accept_partial_success": True}
    with pytest.raises(JobFailed) as raised:
        conclude(ended_job(state), **how)
    assert (raised.value.cell, raised.value.ename) == (3, "KeyError")
    assert f"Notebook job j1 ended as JOB_STATE_{state}." in str(raised.value)


def test_a_cell_that_may_raise_fails_no_task(google, caplog):
    google.storage.put(EXECUTED, notebook(ALLOWED, VALUE))
    assert conclude(ended_job(), fail_on_cell_error=True).results == {"result": 42}
    assert logged(caplog) == []


# --- a notebook that cannot be read ---


def _forbidden(google):
    google.storage.put(EXECUTED, BAD)
    google.storage.fail("read", 403, "no storage.objects.get access")


def _deleted_meanwhile(google):
    google.storage.put(EXECUTED, BAD)
    google.storage.fail("get", 404)


UNREADABLE = [
    (_forbidden, "no storage.objects.get access"),
    (_deleted_meanwhile, "it is gone"),
    (lambda google: google.storage.put(EXECUTED, b""), "it is empty"),
    (lambda google: google.storage.put(EXECUTED, BAD[:-30]), "its JSON is truncated"),
    (lambda google: google.storage.put(EXECUTED, b"<html>"), "a page of HTML"),
    (lambda google: google.storage.put(EXECUTED, b"{}"), "no list of cells"),
    (lambda google: google.storage.put(EXECUTED, BAD + b" " * 10_000), "bytes; at most 9000 are read"),
]


@pytest.mark.parametrize(("trouble", "told"), UNREADABLE)
@pytest.mark.parametrize(
    "how", [{}, {"on_output_error": "warn"}, {"collect_results": False, "on_output_error": "fail"}]
)
def test_a_success_of_which_nothing_was_asked_for_stays_one(google, caplog, trouble, told, how):
    trouble(google)
    ends: list[JobEnd] = []
    done = conclude(ended_job(), ends, max_output_bytes=9000, **how)
    assert (done.results, done.output_notebook_uri) == ({}, EXECUTED)
    assert ends[0].failed_cell is None
    if how.get("collect_results") is False:  # then it is not read at all
        assert (done.output_error, warnings(caplog)) == (None, [])
        return
    assert told in done.output_error
    assert ends[0].to_xcom()["output_error"] == done.output_error
    why, what = warnings(caplog)
    assert (EXECUTED in why, told in why) == (True, True)
    assert (
        what
        == "Notebook job j1 ended as JOB_STATE_SUCCEEDED, but its results could not be collected (collect_results)."
    )


ASKS = [
    {"fail_on_cell_error": True},
    {"log_output": True, "collect_results": False},
    {"collect_results": True},
    {"on_output_error": "fail"},
    {"fail_on_cell_error": True, "collect_results": False, "on_output_error": "fail"},
]
NONE_WRITTEN = (lambda _: None, "No executed notebook was written below gs://bucket/runs")
NO_BUCKET = (lambda google: google.storage.buckets.clear(), "The specified bucket does not exist")
NOT_LISTED = (lambda google: google.storage.fail("list", 403, "no storage.objects.list access"), "storage.objects.list")
UNREACHABLE = (lambda google: google.storage.fail("list", FileNotFoundError("/etc/ca.pem")), "the log says why")


@pytest.mark.parametrize(("trouble", "told"), [*UNREADABLE, NONE_WRITTEN, NO_BUCKET, NOT_LISTED, UNREACHABLE])
@pytest.mark.parametrize("how", ASKS, ids=str)
def test_a_success_fails_if_what_was_asked_for_could_not_be_done(google, trouble, told, how):
    trouble(google)
    ends: list[JobEnd] = []
    with pytest.raises(OutputUnavailable) as raised:
        conclude(ended_job(), ends, max_output_bytes=9000, **how)
    assert told in str(raised.value)
    for name in ("fail_on_cell_error", "log_output"):
        assert (f"({name})" in str(raised.value)) == how.get(name, False)
    assert "/etc/ca.pem" not in str(raised.value)
    (end,) = ends
    assert str(end.result.job_state) == "JOB_STATE_SUCCEEDED"
    assert (end.result.output_error is None) == (trouble is NONE_WRITTEN[0])


@pytest.mark.parametrize(("trouble", "told"), [UNREADABLE[0], NONE_WRITTEN, NO_BUCKET])
@pytest.mark.parametrize("how", ASKS[:3], ids=str)
def test_what_could_not_be_done_is_a_warning_where_that_is_asked_for(google, caplog, capsys, trouble, told, how):
    trouble(google)
    done = conclude(ended_job(), on_output_error="warn", **how)
    assert done.results == {}
    assert told in f"{done.output_error} {warnings(caplog)} {capsys.readouterr().out}"
    assert "ended as JOB_STATE_SUCCEEDED, but" in warnings(caplog)[-1]


@pytest.mark.parametrize("how", [{}, *ASKS], ids=str)
def test_a_notebook_that_hands_out_nothing_is_no_output_error(google, how):
    google.storage.put(EXECUTED, notebook(code("print('hello')", stream("hello"))))
    done = conclude(ended_job(), **how)
    assert (done.results, done.output_error) == ({}, None)


@pytest.mark.parametrize("value", ["ignore", "", "FAIL", True, 0, ["fail"], {}])
def test_on_output_error_is_checked_when_a_dag_is_parsed(value):
    with pytest.raises(InvalidJob, match=r"on_output_error: .* is not one of 'fail', 'warn'"):
        operator(on_output_error=value)
    with pytest.raises(InvalidJob, match=r"on_output_error: .* is not one of 'fail', 'warn'"):
        NotebookExecutionJobSensor(task_id="wait", notebook_execution_job=NAME, on_output_error=value)


@pytest.mark.parametrize(("trouble", "told"), UNREADABLE)
def test_a_failure_whose_notebook_cannot_be_read_is_still_the_jobs(google, caplog, trouble, told):
    trouble(google)
    with pytest.raises(JobFailed) as raised:
        conclude(ended_job("FAILED", "out of memory", 8), max_output_bytes=9000)
    assert raised.value.cell is None
    assert "Reason: out of memory (code 8)" in str(raised.value)
    (warning,) = warnings(caplog)
    assert told in warning


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED"])
def test_a_bucket_that_cannot_be_listed_decides_nothing(google, capsys, state):
    google.storage.put(EXECUTED, GOOD)
    google.storage.fail("list", 403, "no storage.objects.list access")
    if state == "SUCCEEDED":
        done = conclude(ended_job(state))
        assert (done.output_notebook_uri, done.results) == (None, {})
    else:
        with pytest.raises(JobFailed, match=r"no storage\.objects\.list access"):
            conclude(ended_job(state))
    assert "no storage.objects.list access" in capsys.readouterr().out


# --- whether a job of an earlier try is a success ---


@pytest.mark.parametrize(
    ("state", "content", "how", "expected"),
    [
        ("SUCCEEDED", GOOD, {}, True),
        ("SUCCEEDED", BAD, {}, True),
        ("SUCCEEDED", BAD, {"log_output": True}, True),
        ("SUCCEEDED", BAD, {"fail_on_cell_error": True}, False),
        ("SUCCEEDED", GOOD, {"fail_on_cell_error": True}, True),
        # What cannot be read is no reason to run the notebook again: see `OutputUnavailable`.
        ("SUCCEEDED", b"no notebook", {"fail_on_cell_error": True}, True),
        ("SUCCEEDED", None, {"fail_on_cell_error": True}, True),
        ("PARTIALLY_SUCCEEDED", GOOD, {}, False),
        ("PARTIALLY_SUCCEEDED", GOOD, {"accept_partial_success": True}, True),
        ("PARTIALLY_SUCCEEDED", BAD, {"accept_partial_success": True, "fail_on_cell_error": True}, False),
        ("FAILED", GOOD, {"accept_partial_success": True, "fail_on_cell_error": True}, False),
        ("CANCELLED", GOOD, {}, False),
        ("EXPIRED", GOOD, {}, False),
        ("RUNNING", GOOD, {}, False),
        (UNKNOWN, GOOD, {}, False),
    ],
)
def test_whether_a_job_is_a_success(google, state, content, how, expected):
    if content is not None:
        google.storage.put(EXECUTED, content)
    job, hook = ended_job(state), NotebookExecutionJobHook()
    assert Conclusion(**how).is_success(hook, job, LOG) is expected
    if not how.get("fail_on_cell_error") or state == "FAILED":
        assert google.storage.requests == []  # the state alone decides
    # It is the same that the task itself would say of this job.
    try:
        conclude(job, **how)
    except (JobFailed, JobCancelled, JobExpired):
        assert not expected
    except OutputUnavailable:
        assert expected
    else:
        assert expected


# --- what tasks ask for, and what they return ---

ASKED = {
    "accept_partial_success": True,
    "collect_results": False,
    "result_max_bytes": 7,
    "log_output": True,
    "fail_on_cell_error": True,
    "on_output_error": "fail",
    "max_output_bytes": 8,
}
NAME = "projects/p/locations/us-central1/notebookExecutionJobs/j1"


@pytest.mark.parametrize("asked", [{}, ASKED])
def test_operators_and_sensors_pass_on_what_they_were_asked_for(asked):
    sensor = NotebookExecutionJobSensor(task_id="wait", notebook_execution_job=NAME, **asked)
    for task in (CreateNotebookExecutionJobOperator(**arguments(**asked)), sensor):
        assert conclusion_for(task) == Conclusion(**asked)


def operator(**changes: Any) -> CreateNotebookExecutionJobOperator:
    return CreateNotebookExecutionJobOperator(**arguments(gcs_output_uri=OUTPUT, **changes))


def test_a_task_returns_its_result_and_records_the_end(google):
    google.service.executed = GOOD
    context = make_context("r")
    told = operator().execute(context)
    assert (told["job_state"], told["results"]) == ("JOB_STATE_SUCCEEDED", {"result": 42})
    record = context["ti"].pushed["notebook_execution_job"]
    assert (record["job_state"], record["failed_cell"]) == ("JOB_STATE_SUCCEEDED", None)
    assert record["output_notebook_uri"] == told["output_notebook_uri"] == f"{OUTPUT}/{told['job_id']}/content.ipynb"


@pytest.mark.parametrize(("state", "fails"), [("JOB_STATE_FAILED", False), ("JOB_STATE_SUCCEEDED", True)])
def test_a_task_that_fails_records_the_cell(google, state, fails):
    google.service.executed = BAD
    google.service.course = (state.removeprefix("JOB_STATE_"),)
    context = make_context("r")
    with pytest.raises(JobFailed, match="Cell 3 raised KeyError") as raised:
        operator(fail_on_cell_error=fails).execute(context)
    assert not isinstance(raised.value, AirflowFailException)  # it may be tried again
    record = context["ti"].pushed["notebook_execution_job"]
    assert record["job_state"] == state
    assert record["failed_cell"] == {"number": 3, "ename": "KeyError", "evalue": "'west'"}


@pytest.mark.parametrize(("job_timeout", "expected"), [(None, JobTimeout), (60, JobExpired)])
def test_the_tasks_own_time_limit_is_told_from_the_jobs(google, job_timeout, expected):
    google.service.course = ("EXPIRED",)
    with pytest.raises(expected, match="ended as JOB_STATE_EXPIRED") as raised:
        operator(execution_timeout=timedelta(hours=1), job_timeout=job_timeout).execute(make_context("r"))
    assert type(raised.value) is expected


# --- another try of a task whose job succeeded ---


def test_another_try_reads_the_notebook_of_the_same_job(google, monkeypatch):
    """What can be read later is not worth a second run."""
    google.service.executed = GOOD
    google.storage.fail("read", 403, "no storage.objects.get access", times=1)
    first = make_context("r", retries=2, max_tries=2)
    with pytest.raises(OutputUnavailable) as raised:
        operator(collect_results=True).execute(first)
    assert not isinstance(raised.value, AirflowFailException)
    second = make_context("r", retries=2, max_tries=2, try_number=2)
    second["dag_run"] = first["dag_run"]
    told = operator(collect_results=True).execute(second)
    assert told["results"] == {"result": 42}
    assert len(google.service.submitted) == 1


@pytest.mark.parametrize("how", [{"durable": False}])
def test_no_other_try_comes_where_it_would_run_the_notebook_again(google, how):
    google.service.executed = b"no notebook"
    with pytest.raises(OutputUnavailable) as raised:
        operator(fail_on_cell_error=True, **how).execute(make_context("r", retries=2, max_tries=2))
    assert isinstance(raised.value, AirflowFailException)


# --- what a triggerer finds out, for a worker ---

LARGE = notebook(code("1", result({"text/plain": f"'{'x' * 3000}'"}), tags=("result",)))
CONTENTS = {"good": GOOD, "bad": BAD, "allowed": notebook(VALUE, ALLOWED), "large": LARGE, "none": None, "junk": b"no"}
WAYS: list[dict[str, Any]] = [
    {},
    {"collect_results": True},
    {"collect_results": False},
    {"collect_results": False, "fail_on_cell_error": True},
    {"fail_on_cell_error": True},
    {"accept_partial_success": True},
    {"log_output": True},
    {"result_max_bytes": 100},
    {"max_output_bytes": 100},
    {"on_output_error": "fail"},
]


def of_small(job: Any, max_bytes: int = 2**20, **how: Any) -> JobResult | None:
    try:
        return Conclusion(**how).of_small(NotebookExecutionJobHook(), job, max_bytes=max_bytes, timeout=20)
    except NotebookExecutionJobError:
        return None


@pytest.mark.parametrize("state", ["SUCCEEDED", "PARTIALLY_SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", UNKNOWN])
@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("how", WAYS, ids=str)
def test_it_finds_out_what_a_worker_would_and_only_what_needs_no_telling(google, caplog, state, content, how):
    if CONTENTS[content] is not None:
        google.storage.put(EXECUTED, CONTENTS[content])
    job = ended_job(state)
    found = of_small(job, **how)
    assert not caplog.records
    if found is None:
        return
    assert conclude(job, **how) == found
    assert not warnings(caplog)
    assert not logged(caplog)


@pytest.mark.parametrize("content", ["good", "allowed"])
@pytest.mark.parametrize("how", [way for way in WAYS if not {"log_output", "max_output_bytes"} & {*way}], ids=str)
def test_it_finds_out_what_a_good_notebook_came_to(google, content, how):
    google.storage.put(EXECUTED, CONTENTS[content])
    found = of_small(ended_job(), **how)
    assert found is not None
    assert found.output_notebook_uri == EXECUTED
    assert found.results == ({} if how.get("collect_results") is False else {"result": 42})


def test_it_reads_no_notebook_that_nobody_wants(google):
    google.storage.put(EXECUTED, GOOD)
    assert of_small(ended_job(), max_bytes=0, collect_results=False)
    assert len(google.storage.requests) == 1  # which looks for it


@pytest.mark.parametrize("room", [0, -1])
def test_it_reads_no_notebook_that_is_larger_than_it_may(google, room):
    google.storage.put(EXECUTED, GOOD)
    assert (of_small(ended_job(), max_bytes=len(GOOD) + room) is None) is (room < 0)


def test_a_trigger_carries_only_what_is_not_the_default():
    assert conclusion_arguments(operator()) == {}
    assert conclusion_arguments(operator(**ASKED)) == ASKED
    json.dumps(conclusion_arguments(operator(**ASKED)))
