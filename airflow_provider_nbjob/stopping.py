"""Stopping the job of a task that Airflow ended: whether to, and never to fail at it.

Airflow calls `on_kill` also where the task goes on: on a worker that is merely shut down (read in 3.3.2's supervisor,
which passes SIGTERM on), and in a triggerer that was thought dead and comes back to find its triggers reassigned.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.job import JobName
from airflow_provider_nbjob.record import JOB_XCOM_KEY

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

# States of a task instance whose process was ended and that will be, or is already, tried again. A clear of a running
# task is "restarting": that asks for a new job.
_GOES_ON = frozenset({"running", "up_for_retry", "scheduled", "queued", "deferred"})

# Airflow kills a worker 5 s after it asked it to stop: by then a job that cannot be cancelled must have been deleted.
KILL_SECONDS = 3.5
ASK_SECONDS = 2.5  # of these, to find out whether the task goes on


def stop_quietly(hook: NotebookExecutionJobHook, name: str, **options: Any) -> None:
    """Stop a job; never raises, so that the error that led here is the one seen.

    :param name: the job's resource name
    :param options: see `NotebookExecutionJobHook.cancel_notebook_execution_job`
    """
    try:
        hook.cancel_notebook_execution_job(name=name, **options)
    except Exception as error:
        hook.log.error("Could not stop notebook job %s, which may still run and cost: %s", name, error)


def stop_unless_tried_again(ti: Any, name: str, *, stop: Callable[..., None], log: Any) -> None:
    """On a worker that is being ended: stop the job, unless a later try of the task comes, and finds it.

    This is a signal handler's code. What it interrupted may hold the lock of the connection to the supervisor, and
    gives it back only when the handler has returned; so the question is asked in a thread, which then acts by itself.

    :param ti: the task instance
    :param name: the job's resource name
    :param stop: stops the job; its argument `grace` is in seconds
    """
    is_decided = threading.Event()
    started = time.monotonic()

    def stop_or_leave() -> None:
        is_left = _will_be_tried_again(ti)
        is_decided.set()
        if is_left:
            log.info("The worker ends, the task does not: its next try goes on with job %s", name)
        else:
            stop(grace=max(0.0, KILL_SECONDS - (time.monotonic() - started)))

    thread = threading.Thread(target=stop_or_leave)
    thread.start()
    if is_decided.wait(0.5):
        thread.join()


def _will_be_tried_again(ti: Any) -> bool:
    """Whether a later try comes; no, where Airflow does not say in time: a job that nobody waits for would cost."""
    if ti.try_number > ti.max_tries:
        return False
    answer: list[str | None] = []
    thread = threading.Thread(target=lambda: answer.append(_state(ti)), daemon=True)
    thread.start()
    thread.join(ASK_SECONDS)
    return bool(answer) and answer[0] in _GOES_ON


def is_awaited(ti: Any, name: str) -> bool:
    """Whether a deferred task still waits for a job: its trigger was given to another triggerer, and goes on there.

    :param ti: the task instance, in the triggerer; none where the trigger serves no task
    :param name: the job's resource name
    """
    if ti is None or _state(ti) != "deferred":
        return False
    from airflow.providers.common.compat.sdk import XCom

    try:
        # After a clear the task may be deferred again already, waiting for another job.
        awaited = XCom.get_one(
            key=JOB_XCOM_KEY, dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index
        )
        return bool(awaited) and JobName.parse(awaited["name"]).job_id == JobName.parse(name).job_id
    except Exception:  # whatever keeps Airflow from answering
        return False


def _state(ti: Any) -> str | None:
    """The state of a task instance, `None` where Airflow does not say."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    try:
        states = RuntimeTaskInstance.get_task_states(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
        )
    except Exception:  # whatever keeps Airflow from answering
        return None
    return next(iter(states.get(ti.run_id, {}).values()), None)
