"""Calls of Airflow's task runner that are not public API, with the versions of Airflow in which they were read.

A test looks up each name, so that an Airflow without it fails the test before it fails a task.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from typing import Any


class NotInThisAirflow(RuntimeError):
    """A name is gone, or is called in another way. That says nothing of the task that was asked about."""


def runs_in_process() -> bool:
    """Return whether this process is that of a person's command, which Ctrl-C interrupts.

    In Airflow 3.1 to 3.3 `airflow dags test` and `airflow tasks test` use `InProcessTestSupervisor`.
    """
    from airflow.sdk.execution_time import task_runner

    return type(getattr(task_runner, "SUPERVISOR_COMMS", None)).__name__ == "InProcessSupervisorComms"


def is_tasks_test() -> bool:
    """Return whether `airflow tasks test` runs this task.

    On a date that has a run, that command is given the run's own task instance: its run id, try number and id. In
    Airflow 3.1 to 3.3 it sets ``AIRFLOW_TEST_MODE`` (airflow/cli/commands/task_command.py).
    """
    return bool(os.environ.get("AIRFLOW_TEST_MODE")) and runs_in_process()


def state_of_task(ti: Any) -> str | None:
    """Ask Airflow for the state of a task instance, None if it has none. Read in Airflow 3.1.8, 3.2.2 and 3.3.2.

    :raises NotInThisAirflow: if the question cannot be asked in this way
    :raises Exception: if Airflow does not answer
    """
    states = _call(
        "airflow.sdk.execution_time.task_runner",
        "RuntimeTaskInstance",
        "get_task_states",
        {"dag_id": ti.dag_id, "task_ids": [ti.task_id], "run_ids": [ti.run_id], "map_index": ti.map_index},
    )
    return next(iter(states.get(ti.run_id, {}).values()), None)


def xcom_of_task(ti: Any, key: str) -> Any:
    """Return an XCom of a task instance, None if there is none. Read in Airflow 3.1.8, 3.2.2 and 3.3.2.

    :raises NotInThisAirflow: if the question cannot be asked in this way
    :raises Exception: if Airflow does not answer
    """
    of_task = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
    return _call("airflow.providers.common.compat.sdk", "XCom", "get_one", {"key": key, **of_task})


def _call(module: str, owner: str, name: str, arguments: Mapping[str, Any]) -> Any:
    """Call a method of a class of Airflow's.

    :raises NotInThisAirflow: if there is none, or it does not take these arguments
    """
    try:
        method = getattr(getattr(import_module(module), owner), name)
        signature(method).bind(**arguments)
    except (ImportError, AttributeError, TypeError) as error:
        raise NotInThisAirflow(f"{module}.{owner}.{name}: {error}") from error
    return method(**arguments)
