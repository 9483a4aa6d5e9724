"""A task that starts in the triggerer: what it submits, what becomes of a failure, and how it ends."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException, TaskDeferred, XCom
from google.api_core.exceptions import PermissionDenied, ServiceUnavailable

from airflow_provider_nbjob.job.mark import Mark
from airflow_provider_nbjob.job.record import JOB_XCOM_KEY, parse_record
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from airflow_provider_nbjob.triggers import start
from airflow_provider_nbjob.triggers.event import JobEvent
from airflow_provider_nbjob.triggers.start import NotebookExecutionJobStartTrigger
from tests.support.airflow_versions import STARTS_IN_TRIGGERER
from tests.support.fake_google import FakeWait
from tests.support.notebooks import code, error, notebook, result
from tests.support.patience import patient, until
from tests.support.running import airflow_says, made_again, run
from tests.support.tasks import REQUIRED, context_of

pytestmark = pytest.mark.skipif(not STARTS_IN_TRIGGERER, reason="Airflow 3.3 is the first whose tasks can start there")
GOOD = notebook(code("40 + 2", result({"text/plain": "42"}), tags=("result",)))
RAISED = notebook(code("rows['west']", error("KeyError", "'west'")))


@pytest.fixture
def google(monkeypatch):
    made = FakeWait(monkeypatch)
    made.service.executed = GOOD
    return made


@pytest.fixture
def service(google):
    return google.service


@pytest.fixture
def kept(monkeypatch) -> dict[str, Any]:
    """The task's XComs, which the triggerer reads and writes."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(XCom, "set", lambda key, value, **_: found.update({key: json.loads(json.dumps(value))}))
    monkeypatch.setattr(XCom, "get_one", lambda key, **_: found.get(key))
    monkeypatch.setattr(start, "why_end_on_worker", lambda _: None)
    return found


def trigger_of(try_number: int = 1, *, retries: int = 0, timeout: timedelta | None = None, run: Any = None, **changes):
    """Return the trigger that the scheduler makes of a task, as a triggerer prepares it."""
    asked = {"deferrable": True, "start_from_trigger": True, "poll_interval": 0.01, "execution_timeout": timeout}
    operator = CreateNotebookExecutionJobOperator(**{**REQUIRED, **asked, "retries": retries, **changes})
    context = context_of(try_number, retries=retries, run=run)
    context["ti"].max_tries = 0  # as a triggerer has it
    context["ti"].task = operator
    args = operator.start_trigger_args
    trigger = made_again(NotebookExecutionJobStartTrigger(**args.trigger_kwargs))
    trigger.task_instance = context["ti"]
    trigger.timeout_after = datetime.now(timezone.utc) + timeout if timeout else None
    trigger.render_template_fields({**context, "ds": "2026-11-30"})
    return trigger


async def events_of(trigger: Any) -> list[Any]:
    return [event async for event in trigger.run()]


def event_of(trigger: Any) -> Any:
    (event,) = run(events_of(trigger), seconds=60)
    return event


def told(event: Any) -> JobEvent:
    return JobEvent.from_payload(json.loads(json.dumps(event.payload)))


def test_a_success_ends_the_task(service, kept):
    event = event_of(trigger_of(labels={"day": "{{ ds }}"}))
    assert event.task_instance_state == "success"
    (sent,) = service.submitted
    assert sent.labels["day"] == "2026-11-30"
    returned = event.xcoms["return_value"]
    assert returned["results"] == {"result": 42}
    assert event.xcoms == {
        "return_value": returned,
        "results": {"result": 42},
        "job_state": "JOB_STATE_SUCCEEDED",
        "output_notebook_uri": returned["output_notebook_uri"],
    }
    record = parse_record(kept[JOB_XCOM_KEY])
    assert record is not None
    assert (record.state, record.name.job_id) == ("JOB_STATE_SUCCEEDED", returned["job_id"])
    json.dumps(event.xcoms)


def test_no_xcoms_are_pushed_that_nobody_wants(service, kept):
    assert event_of(trigger_of(do_xcom_push=False)).xcoms is None


def test_the_same_job_as_on_a_worker_is_submitted(service, kept):
    changes = {"labels": {"a": "b"}, "display_name": "of {{ ds }}", "job_timeout": 60, "encryption_spec": None}
    event_of(trigger_of(**changes))
    service.jobs.clear()
    context = context_of()
    operator = CreateNotebookExecutionJobOperator(**{**REQUIRED, **changes, "display_name": "of 2026-11-30"})
    operator.poll_interval = 0.01
    operator.execute(context)
    first, second = service.submitted
    first.labels.pop("nbjob-mark", None)
    labels = [{k: v for k, v in dict(job.labels).items() if k != "airflow-nbjob"} for job in (first, second)]
    assert {*labels[0]} == {*labels[1]}
    for job in (first, second):
        job.labels = {}
    assert first == second


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "EXPIRED"])
def test_a_worker_tells_of_what_is_no_success(service, kept, state):
    service.course = ("RUNNING", state)
    event = told(event_of(trigger_of()))
    assert (event.outcome, event.job_state, event.result) == ("finished", f"JOB_STATE_{state}", None)
    assert len(service.submitted) == 1


def test_a_worker_tells_of_a_cell_that_raised(service, kept):
    service.executed = RAISED
    event = told(event_of(trigger_of()))
    assert (event.outcome, event.result) == ("finished", None)


def test_a_worker_ends_a_task_that_airflow_cannot_end_without_it(service, kept, monkeypatch):
    monkeypatch.setattr(start, "why_end_on_worker", lambda _: "it has outlets")
    event = told(event_of(trigger_of()))
    assert event.result is not None
    assert event.result.results == {"result": 42}


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": {"x": "{{ macro_of_the_file }}"}},
        {"labels": {"x": "{{ 'UPPER' }}"}},
        {"parameters": {"x": "{{ ti.xcom_pull('no such task') }}"}},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_what_cannot_be_rendered_or_is_refused_is_told_by_a_worker(service, kept, changes):
    event = told(event_of(trigger_of(**changes)))
    assert event.outcome == "start"
    assert event.message
    assert not service.submitted


def test_a_create_that_is_refused_is_told_by_a_worker(service, kept):
    service.fail("create", PermissionDenied("no"))
    assert told(event_of(trigger_of())).outcome == "start"


def test_a_create_whose_answer_was_lost_makes_no_second_job(service, kept):
    service.lose("create", ServiceUnavailable("lost"), times=1)
    first = event_of(trigger_of())
    if getattr(first, "task_instance_state", None) != "success":
        assert told(first).outcome == "start"
    assert len(service.submitted) == 1


async def handed_over(kept):
    """Have a triggerer submit a job; return the trigger by which another one goes on with the same task."""
    first = trigger_of()
    waiting = asyncio.ensure_future(events_of(first))
    await until(lambda: JOB_XCOM_KEY in kept, "the record")
    waiting.cancel()
    second = trigger_of()
    second.render_template_fields({**second._context, "ti": first.task_instance})
    second.task_instance = first.task_instance
    return second


def another_goes_on(kept, between=lambda: None):
    """Have a triggerer submit a job, then another one run the same task; return the second one's event.

    :param between: called before the second one runs
    """

    async def scene():
        second = await handed_over(kept)
        between()
        return await events_of(second)

    (event,) = run(scene())
    return event


def test_another_triggerer_goes_on_with_the_job(service, kept):
    service.course = ("RUNNING", "RUNNING", "RUNNING", "SUCCEEDED")
    assert another_goes_on(kept).task_instance_state == "success"
    assert len(service.submitted) == 1


def test_another_triggerer_needs_no_connection_to_go_on_with_a_job_on_record(service, kept, monkeypatch):
    service.course = ("RUNNING", "RUNNING", "SUCCEEDED")

    def fails(*_):
        raise AirflowNotFoundException("The conn_id `google_cloud_default` isn't defined")

    event = another_goes_on(kept, lambda: monkeypatch.setattr(start, "_submitters_of", fails))
    assert event.task_instance_state == "success"


def test_another_triggerer_finds_the_job_that_is_not_on_record_yet(service, kept):
    service.course = ("RUNNING", "RUNNING", "SUCCEEDED")
    assert another_goes_on(kept, lambda: kept.clear()).task_instance_state == "success"
    assert len(service.submitted) == 1


def test_a_record_that_airflow_does_not_take_leaves_no_task_to_a_worker(service, kept, monkeypatch):
    """Whose job would run on if a person ended the task by then: Airflow drops that event, and tells nobody."""
    put = XCom.set
    failures = [RuntimeError("the database is locked")]

    def refuse_once(**asked: Any) -> None:
        if failures:
            raise failures.pop()
        put(**asked)

    monkeypatch.setattr(XCom, "set", refuse_once)
    event = event_of(trigger_of())
    assert event.task_instance_state == "success"
    assert not failures
    assert len(service.submitted) == 1


@pytest.mark.parametrize("record", [None, {"name": "x"}, {"try_number": 1}, 7])
def test_a_record_that_somebody_wrote_leads_to_no_job_of_theirs(service, kept, record):
    theirs = service.put("RUNNING", name="projects/p/locations/us-central1/notebookExecutionJobs/theirs")
    kept[JOB_XCOM_KEY] = {"name": theirs, "try_number": 1} if record is None else record
    event = event_of(trigger_of())
    assert event.xcoms["return_value"]["job_id"] != "theirs"
    assert len(service.submitted) == 1


def test_a_record_of_another_location_is_not_gone_on_with(service, kept):
    service.course = ("RUNNING", "RUNNING", "SUCCEEDED")

    def move():
        kept[JOB_XCOM_KEY]["name"] = kept[JOB_XCOM_KEY]["name"].replace("us-central1", "europe-west4")

    assert "/us-central1/" in another_goes_on(kept, move).xcoms["return_value"]["name"]
    assert len(service.submitted) == 1


def test_a_later_try_is_started_by_a_worker(service, kept):
    """A trigger cannot know whether the task was cleared since, and so whether to go on with a job that was left."""
    event = told(event_of(trigger_of(2, retries=1)))
    assert event.outcome == "start"
    assert not service.calls


@pytest.mark.parametrize("try_number", [1, 2])
def test_a_try_after_a_clear_does_not_show_what_the_former_one_returned(service, kept, monkeypatch, try_number):
    """Airflow deletes XComs as a worker starts a task, but not after a trigger."""
    monkeypatch.setattr(XCom, "delete", lambda key, **_: kept.pop(key, None))
    before = {"return_value": {"results": {"result": 1}}, "results": {"result": 1}, JOB_XCOM_KEY: {"name": "former"}}
    kept.update(before)
    event = json.loads(json.dumps(JobEvent("start", "start", message="a retry").to_payload()))
    operator = CreateNotebookExecutionJobOperator(**{**REQUIRED, "deferrable": True, "start_from_trigger": True})
    with pytest.raises(TaskDeferred):
        operator.execute_complete(context_of(try_number), event)
    assert kept == (before if try_number == 1 else {})


def test_the_mark_is_the_one_of_a_first_try_on_a_worker(service, kept):
    event_of(trigger_of(retries=3))
    (sent,) = service.submitted
    mark = Mark.of(sent.labels)
    assert mark is not None
    assert mark.max_tries == 3


def test_it_is_given_up_before_airflow_gives_up_its_trigger(service, kept):
    service.course = ("RUNNING",)
    event = told(event_of(trigger_of(timeout=timedelta(seconds=1))))
    assert event.outcome == "timeout"


def test_a_task_that_is_ended_while_it_submits_has_its_job_stopped(service, kept, monkeypatch):
    service.course = ("RUNNING",)
    monkeypatch.setattr(start, "is_awaited", lambda *_, **__: False)
    trigger = trigger_of()

    async def scene():
        waiting = asyncio.ensure_future(events_of(trigger))
        await until(lambda: service.submitted, "a submit")
        waiting.cancel()
        await trigger.on_kill()
        await until(service.has_been_told_to_stop, "a stop")

    run(scene())


class Gate:
    """Holds requests of a method, in their threads, until it is opened."""

    def __init__(self, service: Any, method: str) -> None:
        self.method, self.reached, self.opened = method, threading.Event(), threading.Event()
        service.before = self._hold

    def _hold(self, method: str) -> None:
        if method == self.method:
            self.reached.set()
            assert self.opened.wait(patient(60))


async def taken_away(trigger: Any, gate: Gate) -> asyncio.Task[None]:
    """Take a trigger away while its create is under way, as a triggerer does; return its `on_kill`, which goes on."""
    waiting = asyncio.ensure_future(events_of(trigger))
    await until(gate.reached.is_set, "a request that is held")
    waiting.cancel()
    await asyncio.wait({waiting})
    return asyncio.create_task(trigger.on_kill())


@pytest.mark.parametrize("state", ["deferred", "scheduled", "queued", "running", "up_for_retry"])
def test_a_trigger_that_is_taken_away_while_it_submits_leaves_the_job_to_who_goes_on(service, kept, monkeypatch, state):
    """Its job is not on record yet, and another triggerer, or a worker after it, goes on with it."""
    airflow_says(monkeypatch, state, None)
    gate = Gate(service, "create")

    async def scene():
        killing = await taken_away(trigger_of(), gate)
        gate.opened.set()
        await asyncio.wait_for(killing, patient(20))

    run(scene(), seconds=60)
    assert len(service.submitted) == 1
    assert not service.has_been_told_to_stop()
    assert JOB_XCOM_KEY not in kept, "it may have the record of the task's next job by now"


@pytest.mark.parametrize("state", ["failed", "success", "skipped", None])
def test_a_task_that_is_ended_while_its_create_is_under_way_has_its_job_stopped(service, kept, monkeypatch, state):
    airflow_says(monkeypatch, state, None)
    gate = Gate(service, "create")

    async def scene():
        killing = await taken_away(trigger_of(), gate)
        assert not service.submitted
        gate.opened.set()
        await asyncio.wait_for(killing, patient(20))

    run(scene(), seconds=60)
    assert len(service.submitted) == 1
    assert service.has_been_told_to_stop()


def test_a_task_that_is_ended_before_its_create_is_sent_submits_nothing(service, kept, monkeypatch):
    """Its thread looks up the connection, and comes back when the task is over."""
    airflow_says(monkeypatch, "failed", None)
    looked_up, opened, returned = threading.Event(), threading.Event(), threading.Event()
    submit = NotebookExecutionJobStartTrigger._submit

    def late(self: Any, *arguments: Any) -> str:
        looked_up.set()
        assert opened.wait(patient(60))
        try:
            return submit(self, *arguments)
        finally:
            returned.set()

    monkeypatch.setattr(NotebookExecutionJobStartTrigger, "_submit", late)
    trigger = trigger_of()

    async def scene():
        waiting = asyncio.ensure_future(events_of(trigger))
        await until(looked_up.is_set, "a look-up")
        waiting.cancel()
        await asyncio.wait({waiting})
        await trigger.on_kill()
        opened.set()
        await until(returned.is_set, "the thread's end")

    run(scene(), seconds=60)
    assert not service.submitted


def test_a_create_that_is_not_answered_by_the_deadline_is_given_up_and_its_job_stopped(service, kept, monkeypatch):
    """Airflow gives up the trigger then, and the worker that follows looks for a job that is not there yet."""
    airflow_says(monkeypatch, "running", None)
    gate = Gate(service, "create")

    async def scene():
        (event,) = await events_of(trigger_of(timeout=timedelta(seconds=1)))
        assert not service.submitted
        gate.opened.set()
        await until(service.has_been_told_to_stop, "a stop")
        return told(event)

    event = run(scene(), seconds=60)
    assert event.outcome == "timeout"
    assert event.name.endswith(service.submitted[0].name.rpartition("/")[2])
    assert len(service.submitted) == 1


def test_templates_that_wait_without_end_are_rendered_by_a_worker(service, kept, monkeypatch):
    monkeypatch.setattr(start, "RENDER_SECONDS", 0.1)
    opened = threading.Event()
    trigger = trigger_of(labels={"x": "{{ wait() }}"})
    trigger._context["wait"] = lambda: opened.wait(patient(60))
    event = told(event_of(trigger))
    opened.set()
    assert event.outcome == "start"
    assert event.message
    assert not service.submitted


def test_a_task_that_is_ended_before_it_submits_has_nothing_to_stop(service, kept, monkeypatch):
    airflow_says(monkeypatch, "failed", None)
    trigger = trigger_of()
    run(trigger.on_kill())
    assert not service.submitted
    assert not service.has_been_told_to_stop()


@pytest.mark.parametrize("changes", [{"labels": {"x": "{{ unknown }}"}}, {"parameters": {"x": "{{ 1 / 0 }}"}}])
def test_a_task_that_cannot_be_rendered_has_nothing_to_stop(service, kept, monkeypatch, changes):
    airflow_says(monkeypatch, "failed", None)
    monkeypatch.setattr("airflow_provider_nbjob.triggers.notebook_execution_job.STOP_SECONDS", 0.0)
    run(trigger_of(**changes).on_kill())
    assert not service.calls


@pytest.mark.parametrize("is_on_record", [True, False])
def test_a_task_that_is_ended_as_it_is_handed_over_has_its_job_stopped(service, kept, monkeypatch, is_on_record):
    """The triggerer that is told of the end has not got as far as to know the job that the one before submitted."""
    service.course = ("RUNNING",)

    async def scene():
        second = await handed_over(kept)
        airflow_says(monkeypatch, "failed", kept[JOB_XCOM_KEY]["name"] if is_on_record else None)
        await second.on_kill()
        await until(service.has_been_told_to_stop, "a stop")

    run(scene(), seconds=60)


def test_a_job_of_somebody_else_that_has_the_id_is_not_stopped(service, kept, monkeypatch):
    airflow_says(monkeypatch, "failed", None)
    service.put("RUNNING", name="projects/p/locations/us-central1/notebookExecutionJobs/theirs")
    run(trigger_of(notebook_execution_job_id="theirs").on_kill())
    assert not service.has_been_told_to_stop()


def test_a_stop_goes_on_until_airflow_says_which_job(service, kept, monkeypatch):
    service.course = ("RUNNING",)
    first = trigger_of()
    asked: list[None] = []

    def record(**_: Any) -> Any:
        asked.append(None)
        if len(asked) == 1:
            raise RuntimeError("no answer")
        return kept[JOB_XCOM_KEY]

    async def scene():
        waiting = asyncio.ensure_future(events_of(first))
        await until(lambda: JOB_XCOM_KEY in kept, "the record")
        waiting.cancel()
        second = trigger_of()
        airflow_says(monkeypatch, "failed")
        monkeypatch.setattr(XCom, "get_one", record)
        await second.on_kill()
        await until(service.has_been_told_to_stop, "a stop")

    run(scene(), seconds=60)


def test_so_many_submit_at_once_and_no_more(service, kept):
    now, most, lock = 0, 0, threading.Lock()

    def slow(method: str) -> None:
        nonlocal now, most
        if method != "create":
            return
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1

    service.before = slow
    service.course = ("SUCCEEDED",)  # a list shows no progress

    async def scene():
        triggers = [trigger_of(notebook_execution_job_id=f"own-{number}") for number in range(12)]
        return await asyncio.gather(*map(events_of, triggers))

    assert len(run(scene(), seconds=60)) == 12
    assert most == start.SUBMITTERS


@pytest.mark.parametrize("is_submitted", [True, False])
def test_if_airflow_gives_up_the_trigger_the_worker_stops_the_job(service, kept, is_submitted):
    asked = {**REQUIRED, "deferrable": True, "start_from_trigger": True}
    context = context_of()
    operator = CreateNotebookExecutionJobOperator(**asked)
    if is_submitted:
        service.course = ("RUNNING",)
        operator.starts_in_triggerer = False
        with pytest.raises(TaskDeferred):
            operator.execute(context)
    with pytest.raises(AirflowException, match="Trigger"):
        CreateNotebookExecutionJobOperator(**asked).resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    assert service.has_been_told_to_stop() or not is_submitted
