"""Names of Airflow that are not public API, with the versions of Airflow in which they were read.

A test looks up each name, so that an Airflow without it fails the test before it fails a task.

Operators import this module when a DAG is parsed, so it imports nothing of Airflow before a function is called. The
names that only the API server needs are in `plugins/notebook_jobs/airflow_compat.py`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import re

log = logging.getLogger(__name__)

_TASK_RUNNER = "airflow.sdk.execution_time.task_runner"
# The masker of the task SDK, which knows the secrets of workers and triggerers, and that of Airflow's core, which the
# API server and the models of the metadata database use. The names are the same in 3.1.0, 3.1.8, 3.2.2 and 3.3.2.
_MASKERS = ("airflow.sdk._shared.secrets_masker", "airflow._shared.secrets_masker")


class NotInThisAirflow(RuntimeError):
    """A name is gone, or takes other arguments. That says nothing of the task that was asked about."""


class SecretsMasker(Protocol):
    """The parts of Airflow's secrets masker that are used.

    :param replacer: matches each secret that the masker knows; None if it knows none
    """

    replacer: re.Pattern[str] | None

    def should_hide_value_for_key(self, name: str) -> bool:
        """Return whether Airflow hides a value of this name."""

    def redact(self, item: str) -> Any:
        """Return the text with each secret replaced."""


def secrets_maskers() -> list[SecretsMasker]:
    """Return the maskers of this process. A worker may be installed without Airflow's core, and then has one.

    :raises AttributeError: if a masker cannot be had in this way: a text that was not masked must not be shown
    """
    found = []
    for module in _MASKERS:
        try:
            found.append(import_module(module)._secrets_masker())
        except ImportError:
            continue
    return found


def runs_in_process() -> bool:
    """Return whether a person's command, which Ctrl-C interrupts, runs the task in its own process.

    In Airflow 3.1 to 3.3 `airflow dags test` and `airflow tasks test` use `InProcessTestSupervisor`. If this Airflow
    cannot be asked, return False: then the process is taken for a worker or a triggerer, whose end does not say that
    the task is over.
    """
    try:
        task_runner = import_module(_TASK_RUNNER)
    except ImportError as error:
        log.warning("Whether a person's command runs this task cannot be found out in this Airflow: %s", error)
        return False
    return type(getattr(task_runner, "SUPERVISOR_COMMS", None)).__name__ == "InProcessSupervisorComms"


def is_tasks_test() -> bool:
    """Return whether `airflow tasks test` runs this task.

    On a date that has a run, that command gets the run's own task instance: its run id, try number and id. In Airflow
    3.1 to 3.3 it sets ``AIRFLOW_TEST_MODE`` (airflow/cli/commands/task_command.py).
    """
    return bool(os.environ.get("AIRFLOW_TEST_MODE")) and runs_in_process()


def state_of_task(ti: Any) -> str | None:
    """Ask Airflow for the state of a task instance; return None if it has none.

    Read in Airflow 3.1.8, 3.2.2 and 3.3.2.

    :raises NotInThisAirflow: if this Airflow cannot be asked in this way
    :raises Exception: if Airflow does not answer
    """
    states = _call(
        _TASK_RUNNER,
        "RuntimeTaskInstance",
        "get_task_states",
        {"dag_id": ti.dag_id, "task_ids": [ti.task_id], "run_ids": [ti.run_id], "map_index": ti.map_index},
    )
    return next(iter(states.get(ti.run_id, {}).values()), None)


def xcom_of_task(ti: Any, key: str) -> Any:
    """Return an XCom of a task instance, or None if it has no such XCom. Read in Airflow 3.1.8, 3.2.2 and 3.3.2.

    :raises NotInThisAirflow: if this Airflow cannot be asked in this way
    :raises Exception: if Airflow does not answer
    """
    of_task = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
    return _call("airflow.providers.common.compat.sdk", "XCom", "get_one", {"key": key, **of_task})


def _call(module: str, owner: str, name: str, arguments: Mapping[str, Any]) -> Any:
    """Call a method of a class of Airflow's.

    :raises NotInThisAirflow: if the module, the class or the method does not exist, or takes other arguments
    """
    try:
        method = getattr(getattr(import_module(module), owner), name)
        signature(method).bind(**arguments)
    except (ImportError, AttributeError, TypeError) as error:
        raise NotInThisAirflow(f"{module}.{owner}.{name}: {error}") from error
    return method(**arguments)
