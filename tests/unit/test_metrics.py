"""A metric fails nothing, blocks no event loop, and is named as the page says."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import threading
from collections import Counter

import pytest
from airflow.providers.common.compat.sdk import conf

from airflow_provider_nbjob import airflow_compat, metrics
from airflow_provider_nbjob.exceptions import ApiError, InvalidJob, JobLost
from airflow_provider_nbjob.hooks import permissions
from airflow_provider_nbjob.hooks.retrying import counted
from airflow_provider_nbjob.job import JobState
from airflow_provider_nbjob.metrics import (
    API_CALLS,
    JOBS_ENDED,
    JOBS_SUBMITTED,
    JOBS_WAITING,
    METRICS,
    POLL_DURATION,
    send,
    send_soon,
    state_tag,
)
from airflow_provider_nbjob.triggers import measuring
from tests.support.paths import CHECKOUT
from tests.support.patience import patient, wait_until

PAGE = (CHECKOUT / "docs" / "how-to" / "monitoring.md").read_text()


class Backend:
    """Takes what is sent, in the place of Airflow's."""

    def __init__(self) -> None:
        self.sent: list[tuple] = []

    def incr(self, stat, count=1, *, tags=None):
        self.sent.append((stat, count, tags))

    def gauge(self, stat, value, *, tags=None):
        self.sent.append((stat, value, tags))

    def timing(self, stat, dt, *, tags=None):
        self.sent.append((stat, dt, tags))


@pytest.fixture
def backend(monkeypatch):
    backend = Backend()
    monkeypatch.setattr(metrics, "stats", lambda: backend)
    monkeypatch.setattr(metrics, "hostname", lambda: "triggerer-1.example")
    monkeypatch.setattr(metrics, "has_values_in_metric_names", lambda: True)
    monkeypatch.setattr(metrics, "_sender", metrics._Sender())
    monkeypatch.setattr(metrics, "_has_failed", False)
    monkeypatch.setattr(measuring, "_waiting", Counter())
    monkeypatch.setattr(measuring, "_answered", set())
    return backend


# --- the page ---


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the rows below a table's heading."""
    _, _, rest = PAGE.partition(f"| {heading} |")
    lines = rest.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_lists_the_metrics():
    expected = [[f"`{m.name}`", m.kind, m.unit, ", ".join(f"`{tag}`" for tag in m.tags), m.meaning] for m in METRICS]
    assert rows("metric") == expected


def test_the_page_lists_the_methods():
    listed = [method for row in rows("service") for method in re.findall(r"`(\w+)`", row[1])]
    assert sorted(listed) == sorted(
        access.method
        for access in vars(permissions).values()
        if isinstance(access, permissions.Access) and access.method
    )


def test_the_page_lists_the_states():
    (line,) = re.findall(r"- `state` is (.*)\.", PAGE)
    assert sorted(re.findall(r"`(\w+)`", line)) == sorted(state_tag(state) for state in JobState if state.is_terminal)


def test_names_follow_airflows():
    for metric in METRICS:
        assert re.fullmatch(r"nbjob(\.[a-z_]+)+", metric.name)
        assert not {"dag_id", "task_id", "job_id", "run_id"} & set(metric.tags)


def test_the_page_says_how_many_wait():
    assert f"up to {metrics.PENDING_MAX:,} metrics wait" in PAGE


# --- what is sent ---


def test_a_counter_without_tags(backend):
    send(JOBS_SUBMITTED)
    assert backend.sent == [("nbjob.jobs.submitted", 1, {})]


def test_tags_stand_in_a_second_name_too(backend):
    send(JOBS_ENDED, state=state_tag("JOB_STATE_FAILED"))
    assert backend.sent == [("nbjob.jobs.ended.failed", 1, {}), ("nbjob.jobs.ended", 1, {"state": "failed"})]


def test_the_second_name_can_be_turned_off(backend, monkeypatch):
    monkeypatch.setattr(metrics, "has_values_in_metric_names", lambda: False)
    send(JOBS_ENDED, state="failed")
    assert backend.sent == [("nbjob.jobs.ended", 1, {"state": "failed"})]


@pytest.mark.parametrize(("option", "expected"), [(None, True), ("True", True), ("False", False)])
def test_airflows_option_turns_it_off(monkeypatch, option, expected):
    if option:
        monkeypatch.setenv("AIRFLOW__METRICS__LEGACY_NAMES_ON", option)
    assert airflow_compat.has_values_in_metric_names.__wrapped__() is expected


def test_a_gauge_has_the_name_of_the_machine(backend):
    send(JOBS_WAITING, 3, location="us-central1")
    assert backend.sent == [
        ("nbjob.jobs.waiting.triggerer-1_example.us-central1", 3, {}),
        ("nbjob.jobs.waiting", 3, {"hostname": "triggerer-1.example", "location": "us-central1"}),
    ]


def test_no_value_gets_a_name_that_a_backend_refuses(backend):
    send(JOBS_ENDED, state="a:b|c,d=e\n.f")
    assert backend.sent[0][0] == "nbjob.jobs.ended.a_b_c_d_e__f"


def test_airflow_itself_takes_all(monkeypatch):
    """Airflow's own functions, whose backend is the one of a configuration without metrics."""
    monkeypatch.setattr(metrics, "_has_failed", False)
    for metric in METRICS:
        send(metric, 1, **dict.fromkeys(metric.tags, "x"))
    assert not metrics._has_failed
    assert airflow_compat.hostname()
    assert conf.get("metrics", "statsd_prefix") == "airflow"


# --- what fails ---


@pytest.mark.parametrize("error", [RuntimeError("down"), OSError(101, "unreachable"), ImportError("statsd")])
def test_what_cannot_be_sent_fails_nothing_and_is_logged_once(backend, monkeypatch, caplog, error):
    def fail():
        raise error

    monkeypatch.setattr(metrics, "stats", fail)
    for _ in range(3):
        send(API_CALLS, method="GetObject")
    assert caplog.text.count("Metrics of notebook jobs cannot be sent") == 1


def test_a_tag_that_is_missing_fails_nothing(backend, caplog):
    send(API_CALLS)
    assert "KeyError('method')" in caplog.text


def test_a_task_that_is_timed_out_meanwhile_is(backend, monkeypatch):
    """Airflow's alarm may ring while a metric is sent, and must not be taken for an error of it."""
    from airflow.providers.common.compat.sdk import AirflowTaskTimeout

    def ring(*_, **__):
        raise AirflowTaskTimeout("time is over")

    monkeypatch.setattr(backend, "incr", ring)
    with pytest.raises(AirflowTaskTimeout):
        send(JOBS_SUBMITTED)


def test_a_backend_that_hangs_blocks_no_event_loop(backend, monkeypatch):
    goes_on = threading.Event()
    incr = backend.incr
    monkeypatch.setattr(backend, "incr", lambda *given, **tags: goes_on.wait(patient(60)) and incr(*given, **tags))

    async def many():
        for _ in range(3 * metrics.PENDING_MAX):
            send_soon(JOBS_SUBMITTED)
        await asyncio.sleep(0)

    asyncio.run(many())
    assert not backend.sent
    goes_on.set()
    sent = metrics.PENDING_MAX + 1  # one had been taken before the others were dropped, or none
    wait_until(lambda: len(backend.sent) in (sent - 1, sent), timeout=30, what="the metrics that waited")


def test_those_of_an_event_loop_are_sent_in_order(backend):
    for number in range(100):
        send_soon(JOBS_WAITING, number, location="us-central1")
    wait_until(lambda: len(backend.sent) == 200, timeout=30, what="all of them")
    assert [value for _, value, _ in backend.sent[::2]] == list(range(100))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_backend_that_ends_the_thread_ends_no_metric_but_its_own(backend, monkeypatch):
    incr = backend.incr

    def leave(*given, **tags):
        monkeypatch.setattr(backend, "incr", incr)
        raise SystemExit

    monkeypatch.setattr(backend, "incr", leave)
    send_soon(JOBS_SUBMITTED)
    wait_until(lambda: not metrics._sender._thread.is_alive(), timeout=30, what="the end of the thread")
    send_soon(JOBS_SUBMITTED)
    wait_until(lambda: backend.sent == [("nbjob.jobs.submitted", 1, {})], timeout=30, what="the next metric")


def test_a_process_without_threads_left_drops_them(backend, monkeypatch):
    def no_more(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    send_soon(JOBS_SUBMITTED)


# --- calls, and those who wait ---


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ApiError("no", "UNAVAILABLE"), "UNAVAILABLE"),
        (ConnectionResetError(), "UNAVAILABLE"),
        (TimeoutError(), "DEADLINE_EXCEEDED"),
        (ValueError("of a library"), "UNKNOWN"),
        (InvalidJob("ours"), None),
        (JobLost("ours"), None),
    ],
)
def test_an_error_of_a_call_is_counted_by_its_code(backend, error, code):
    with pytest.raises(type(error)), counted(permissions.GET_OBJECT):
        raise error
    named = [(name, tags) for name, _, tags in backend.sent if tags]
    expected = [("nbjob.api.calls", {"method": "GetObject"})]
    assert named == [*expected, *([("nbjob.api.errors", {"method": "GetObject", "code": code})] if code else [])]


def told(backend) -> list[float]:
    return [value for name, value, tags in backend.sent if name == JOBS_WAITING.name]


def test_a_region_is_told_once_the_api_has_answered(backend):
    """A DAG may name regions that are none, each another one."""
    measuring.waiting("mars-1", 1)
    with pytest.raises(ApiError), measuring.polling("mars-1"):
        raise ApiError("DNS", "UNAVAILABLE")
    measuring.waiting("mars-1", -1)
    for change in (1, 1):
        measuring.waiting("us-central1", change)
    with measuring.polling("us-central1"):
        pass
    wait_until(lambda: POLL_DURATION.name in {name for name, *_ in backend.sent}, timeout=30, what="a duration")
    for change in (-1, -1):
        measuring.waiting("us-central1", change)
    wait_until(lambda: told(backend)[-1:] == [0], timeout=30, what="nobody that waits")
    assert told(backend) == [2, 0]
    assert not any("mars" in f"{name}{tags}" for name, _, tags in backend.sent)


def test_during_an_outage_those_who_wait_are_told(backend):
    measuring.waiting("us-central1", 1)
    with measuring.polling("us-central1"):
        pass
    with pytest.raises(ApiError), measuring.polling("us-central1"):
        raise ApiError("down", "UNAVAILABLE")
    wait_until(lambda: told(backend) == [1, 1], timeout=30, what="one that waits")


def test_importing_it_loads_nothing_of_airflow():
    program = "import sys, airflow_provider_nbjob.metrics; print([m for m in sys.modules if m.startswith('airflow.')])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_warning_goes_to_the_packages_log(backend, caplog):
    send(API_CALLS)
    assert {record.name for record in caplog.records if record.levelno == logging.WARNING} == {metrics.__name__}
