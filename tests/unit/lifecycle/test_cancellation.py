"""Whether a job is stopped when Airflow ends the process that waited for it; Airflow's answers are given here."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from airflow_provider_nbjob.job import JobName
from airflow_provider_nbjob.lifecycle import cancellation
from scripts.processes import free_port
from tests.support import running
from tests.support.patience import patient

API_SERVER = "AIRFLOW__CORE__EXECUTION_API_SERVER_URL"
NAME = JobName("p", "us-central1", "nbjob-a-b-1")
NUMBERED = replace(NAME, project="123456")  # as the API gives it back
TI = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1, max_tries=1)


@contextmanager
def api_server(answer):
    """Serve an API server's ``health``.

    :param answer: an HTTP status, or what is called in place of an answer
    """

    class Health(BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path == "/execution/health"
            if callable(answer):
                answer()
                return
            self.send_response(answer)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/execution/"
        server.shutdown()


@pytest.fixture(autouse=True)
def healthy(monkeypatch):
    """Have Airflow's API server answer, which each test may change by the variable."""
    with api_server(200) as url:
        monkeypatch.setenv(API_SERVER, url)
        yield


@pytest.fixture
def airflow_says(monkeypatch):
    """Have Airflow answer with a state, or do something else in its place."""
    monkeypatch.setattr(cancellation, "KILL_SECONDS", patient(cancellation.KILL_SECONDS))
    monkeypatch.setattr(cancellation, "ASK_SECONDS", patient(cancellation.ASK_SECONDS))

    return lambda state, job=NAME: running.airflow_says(monkeypatch, state, job)


def fail():
    raise RuntimeError("no answer")


def handle_signal(ti=TI) -> tuple[list[float], list[threading.Thread]]:
    """Do what a signal's handler does; return the graces with which the job was stopped, and the threads it left."""
    graces: list[float] = []
    before = set(threading.enumerate())
    cancellation.stop_unless_tried_again(ti, NAME, stop=lambda grace: graces.append(grace), log=logging.getLogger())
    return graces, [thread for thread in threading.enumerate() if thread not in before]


def stops(ti=TI) -> list[float]:
    """Return the graces with which the job was stopped, once the decision has been made."""
    graces, threads = handle_signal(ti)
    join(threads)
    return graces


def join(threads: list[threading.Thread]) -> None:
    """Wait for those that the interpreter would wait for."""
    for thread in threads:
        if not thread.daemon:
            thread.join(patient(10))
            assert not thread.is_alive()


@pytest.mark.parametrize("state", ["running", "up_for_retry", "queued", "scheduled", "deferred"])
def test_a_job_is_left_to_the_next_try(airflow_says, state):
    airflow_says(state)
    assert stops() == []


@pytest.mark.parametrize("state", ["failed", "success", "restarting", "skipped", "removed", None, fail])
def test_a_job_that_nobody_will_wait_for_is_stopped(airflow_says, state):
    airflow_says(state)
    (grace,) = stops()
    assert 0 < grace <= cancellation.KILL_SECONDS


def test_the_last_try_leaves_nothing(airflow_says):
    airflow_says(fail)
    last = SimpleNamespace(**{**vars(TI), "try_number": 2})
    assert len(stops(last)) == 1


def test_what_the_signal_interrupted_is_let_go_on(airflow_says):
    """The answer needs a lock that the interrupted code holds: it comes only after the handler has returned."""
    returned, left = threading.Event(), []

    def when_returned():
        assert returned.wait(patient(10))
        left.append(True)
        return "running"

    airflow_says(when_returned)
    graces, threads = handle_signal()  # a handler that waited for the answer would give up, and stop the job
    assert (graces, left) == ([], [])
    returned.set()
    join(threads)
    assert (graces, left) == ([], [True])


def test_no_answer_is_no_reason_to_pay(airflow_says, monkeypatch):
    monkeypatch.setattr(cancellation, "ASK_SECONDS", 0.1)
    ends = threading.Event()
    airflow_says(ends.wait)
    assert len(stops()) == 1
    ends.set()


@pytest.mark.parametrize("how", ["refused", 502, 503])
@pytest.mark.parametrize("asked", [fail, "slowly"])
def test_a_task_that_ends_as_the_api_server_is_down_leaves_its_job(airflow_says, monkeypatch, how, asked):
    """Airflow ends a task that cannot tell three times that it runs; its later try goes on with the job."""
    ends = threading.Event()
    airflow_says(ends.wait if asked == "slowly" else asked)
    monkeypatch.setattr(cancellation, "ASK_SECONDS", 2.0)
    with api_server(500 if how == "refused" else how) as url:
        monkeypatch.setenv(API_SERVER, f"http://127.0.0.1:{free_port()}" if how == "refused" else url)
        assert stops() == []
        last = SimpleNamespace(**{**vars(TI), "try_number": 2})
        assert len(stops(last)) == 1
    ends.set()


@pytest.mark.parametrize("how", [404, "no answer", "no URL"])
def test_an_api_server_that_is_there_may_have_ended_the_task(airflow_says, monkeypatch, how):
    ends = threading.Event()
    airflow_says(fail)
    monkeypatch.setattr(cancellation, "ASK_SECONDS", 1.0)
    with api_server(ends.wait if how == "no answer" else how) as url:
        monkeypatch.setenv(API_SERVER, "nonsense" if how == "no URL" else url)
        assert len(stops()) == 1
        ends.set()


@pytest.mark.parametrize(
    ("state", "job", "is_awaited"),
    [
        ("deferred", NAME, True),
        ("deferred", NUMBERED, True),
        ("deferred", replace(NAME, job_id="nbjob-a-b-2"), False),  # cleared, and deferred again with a job of its own
        ("deferred", None, False),
        ("failed", NAME, False),
        ("success", NAME, False),
        (None, NAME, False),
        (fail, NAME, False),
    ],
)
def test_whether_a_deferred_task_still_waits(airflow_says, monkeypatch, state, job, is_awaited):
    monkeypatch.setattr(cancellation, "AWAITED_PAUSES", (0.01,))
    airflow_says(state, job)
    assert cancellation.is_awaited(TI, NAME, logging.getLogger()) is is_awaited


@pytest.mark.parametrize(
    ("state", "job", "is_awaited"),
    [
        ("deferred", NAME, True),
        ("deferred", None, True),  # another triggerer has submitted it, and has not put it on record yet
        ("deferred", replace(NAME, job_id="nbjob-a-b-2"), False),
        *((state, job, True) for state in ("scheduled", "queued", "running", "up_for_retry") for job in (NAME, None)),
        ("running", replace(NAME, job_id="nbjob-a-b-2"), False),
        *((state, NAME, False) for state in ("failed", "success", "skipped", "removed", "restarting", None, fail)),
    ],
)
def test_whether_anybody_goes_on_with_a_task_that_started_in_the_triggerer(
    airflow_says, monkeypatch, state, job, is_awaited
):
    monkeypatch.setattr(cancellation, "AWAITED_PAUSES", (0.01,))
    airflow_says(state, job)
    assert cancellation.is_awaited(TI, NAME, logging.getLogger(), by_worker=True) is is_awaited


def test_a_trigger_without_a_task_is_awaited_by_none():
    assert not cancellation.is_awaited(None, NAME, logging.getLogger())
