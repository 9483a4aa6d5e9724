"""End a command such as `airflow dags test` on Ctrl-C: do not retry its task, and stop its job."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from airflow.providers.common.compat.sdk import AirflowFailException

log = logging.getLogger(__name__)


class CommandInterrupted(KeyboardInterrupt, AirflowFailException):
    """Ctrl-C in such a command.

    Airflow 3.3.2 treats a bare `KeyboardInterrupt` as a failure, and retries it. `dags test` would go on with the next
    try, which would submit another job (`_run_task_and_map_outcome` in airflow/sdk/execution_time/task_runner.py).
    """


# Functions to call, by a job's resource name, if the command ends while no code waits for the job.
_left: dict[str, Callable[[], None]] = {}
_keeper: threading.Thread | None = None


def at_the_end(name: str, act: Callable[[], None]) -> None:
    """Call a function when the main thread has ended, unless `taken_over` is called before.

    Ctrl-C may come after the operator has deferred, and before Airflow runs the trigger. Neither can stop the job then.
    The thread that waits is not a daemon: Python waits for it at exit, until Ctrl-C comes again.

    :param name: the job's resource name
    :param act: function that stops the job, or logs the command that stops it
    """
    global _keeper
    _left[name] = act
    if _keeper is None or not _keeper.is_alive():
        _keeper = threading.Thread(target=_act_at_the_end, name="nbjob: at the end of the command", daemon=False)
        _keeper.start()


def taken_over(name: str) -> None:
    """Forget a job that has ended, or that the caller stops.

    :param name: the job's resource name
    """
    _left.pop(name, None)


def _act_at_the_end() -> None:
    threading.main_thread().join()
    while _left:
        _, act = _left.popitem()
        try:
            act()
        except BaseException:  # after any error the other jobs are stopped too
            log.exception("What was to be done for a job at the end of the command failed")
