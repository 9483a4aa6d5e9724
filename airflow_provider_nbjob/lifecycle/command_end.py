"""A person's command, as `airflow dags test`, that Ctrl-C ends: its task is not tried again, and its job is stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from airflow.providers.common.compat.sdk import AirflowFailException

log = logging.getLogger(__name__)


class CommandInterrupted(KeyboardInterrupt, AirflowFailException):
    """Ctrl-C in such a command.

    Airflow 3.3.2 takes a bare `KeyboardInterrupt` for a failure that is retried, so `dags test` would go on with the
    next try, which submits another job (`_run_task_and_map_outcome` in airflow/sdk/execution_time/task_runner.py).
    """


# What is to be done for a job, by its resource name, should the command end while nobody waits for it.
_left: dict[str, Callable[[], None]] = {}
_keeper: threading.Thread | None = None


def at_the_end(name: str, act: Callable[[], None]) -> None:
    """Have a function called when the main thread has ended, unless `taken_over` is called before.

    Ctrl-C may come while Airflow goes from the operator, which has deferred, to the trigger: then neither can stop the
    job. The thread is no daemon: Python waits for it at its end, until Ctrl-C comes again.

    :param name: the job's resource name
    :param act: stops the job, or tells how to
    """
    global _keeper
    _left[name] = act
    if _keeper is None or not _keeper.is_alive():
        _keeper = threading.Thread(target=_act_at_the_end, name="nbjob: at the end of the command", daemon=False)
        _keeper.start()


def taken_over(name: str) -> None:
    """Note that a job has ended, or that the caller stops it."""
    _left.pop(name, None)


def _act_at_the_end() -> None:
    threading.main_thread().join()
    while _left:
        _, act = _left.popitem()
        try:
            act()
        except BaseException:  # whatever it is, the other jobs are stopped too
            log.exception("What was to be done for a job at the end of the command failed")
