"""The metrics of this provider, which Airflow's own means send; docs/how-to/monitoring.md lists them.

No metric has a tag that names a job, a DAG or a task: their number has no bound. A metric that cannot be sent fails
nothing: the log says so once in a process.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
from collections.abc import Callable
from typing import Literal, NamedTuple

from airflow_provider_nbjob.airflow_compat import has_values_in_metric_names, hostname, stats

log = logging.getLogger(__name__)

THREAD_NAME = "nbjob-metrics"  # of the thread that sends those of event loops
PENDING_MAX = 1000  # metrics of event loops that wait for a backend; more are dropped


class Metric(NamedTuple):
    """A metric.

    :param kind: by StatsD's and Airflow's terms
    :param unit: of a value, for a person
    :param meaning: for a person
    :param tags: names of its tags, in the order in which their values stand in its longer name
    """

    name: str
    kind: Literal["counter", "gauge", "timer"]
    unit: str
    meaning: str
    tags: tuple[str, ...] = ()


JOBS_SUBMITTED = Metric("nbjob.jobs.submitted", "counter", "jobs", "jobs that the API has created")
JOBS_ADOPTED = Metric(
    "nbjob.jobs.adopted", "counter", "jobs", "jobs of an earlier try that a task went on with, in place of a new one"
)
JOBS_STOPPED = Metric("nbjob.jobs.stopped", "counter", "jobs", "jobs that were cancelled or deleted to stop them")
JOBS_ENDED = Metric(
    *("nbjob.jobs.ended", "counter", "jobs", "jobs that a task saw end, by the state that they ended in"),
    tags=("state",),
)
JOBS_WAITING = Metric(
    *("nbjob.jobs.waiting", "gauge", "tasks", "deferred tasks that a triggerer waits for, by the region of their job"),
    tags=("hostname", "location"),
)
POLL_DURATION = Metric(
    *("nbjob.poll.duration", "timer", "milliseconds", "a poll of all jobs that a triggerer waits for in a region"),
    tags=("location",),
)
API_CALLS = Metric("nbjob.api.calls", "counter", "calls", "attempts at a call, answered or not", tags=("method",))
API_ERRORS = Metric(
    *("nbjob.api.errors", "counter", "calls", "attempts that failed, by the name of the google.rpc.Code"),
    tags=("method", "code"),
)
METRICS = (
    *(JOBS_SUBMITTED, JOBS_ADOPTED, JOBS_STOPPED, JOBS_ENDED, JOBS_WAITING, POLL_DURATION),
    *(API_CALLS, API_ERRORS),
)


def send(metric: Metric, value: float = 1, **tags: str) -> None:
    """Send a value of a metric; never raise.

    As Airflow's own, a metric with tags has a second, longer name with the values of its tags, for a backend that
    knows no tags, unless ``[metrics] legacy_names_on`` is off.

    :param value: in the unit of the metric
    :param tags: all tags of the metric but ``hostname``
    """
    global _has_failed
    try:
        values = {name: hostname() if name == "hostname" else tags[name] for name in metric.tags}
        if values and has_values_in_metric_names():
            parts = [re.sub(r"[^A-Za-z0-9_-]", "_", value) for value in values.values()]
            _send(metric, ".".join([metric.name, *parts]), value, {})
        _send(metric, metric.name, value, values)
    except Exception as error:  # of a client of any kind, which the configuration may name
        if not _has_failed:
            _has_failed = True
            log.warning("Metrics of notebook jobs cannot be sent: %r", error)


def send_soon(metric: Metric, value: float = 1, **tags: str) -> None:
    """Send a value of a metric from an event loop: off the loop, as a backend may hang or look up a host."""
    _sender.put(lambda: send(metric, value, **tags))


def state_tag(state: str) -> str:
    """Return the tag for a state of a job, such as ``succeeded`` for ``JOB_STATE_SUCCEEDED``."""
    return str(state).removeprefix("JOB_STATE_").lower()


def _send(metric: Metric, name: str, value: float, tags: dict[str, str]) -> None:
    if metric.kind == "counter":
        stats().incr(name, int(value), tags=tags)
    elif metric.kind == "gauge":
        stats().gauge(name, value, tags=tags)
    else:
        stats().timing(name, value, tags=tags)


class _Sender:
    """Calls functions in order, in one thread, which is started when it is first needed."""

    def __init__(self) -> None:
        self._pending: queue.Queue[Callable[[], None]] = queue.Queue(PENDING_MAX)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, function: Callable[[], None]) -> None:
        """Have a function called that does not raise, unless `PENDING_MAX` wait; never block, never raise."""
        try:
            self._pending.put_nowait(function)
            with self._starting:
                if self._thread is None or not self._thread.is_alive():  # after a fork it is gone
                    self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
                    self._thread.start()
        except (queue.Full, RuntimeError):  # the process can start no more threads
            return

    def _run(self) -> None:
        while True:
            self._pending.get()()


_sender = _Sender()
_has_failed = False
