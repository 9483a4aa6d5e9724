"""Run a DAG in this process, and gather what came of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_provider_nbjob.testing.airflow_compat import Instance, dags_of, instances_of, store
from airflow_provider_nbjob.testing.airflow_home import AirflowHome
from airflow_provider_nbjob.testing.emulator import NotebookEmulator
from airflow_provider_nbjob.testing.jobs import Job

RETURNED = "return_value"
SUBMITTED = "notebook_execution_job"  # the XCom that names a task's job


@dataclass(frozen=True)
class DagRunResult:
    """A finished run of a DAG.

    In the dicts by task id, a mapped task has a list with an item for each of its instances, by map index.

    :param state: of the run, ``"success"`` or ``"failed"``
    :param states: states of the tasks by task id, such as ``"success"``, ``"upstream_failed"``, ``"skipped"``
    :param xcoms: values that tasks returned, by task id; None for a task that returned none
    :param jobs: all notebook jobs of the run, with those of earlier tries, the oldest first
    :param notebooks: executed notebooks by task id, of tasks that submitted a job; None if there is no such notebook
    """

    state: str
    states: Mapping[str, Any]
    xcoms: Mapping[str, Any]
    jobs: list[Job]
    notebooks: Mapping[str, Any]
    _pushed: Mapping[tuple[str, int], Mapping[str, Any]] = field(repr=False)

    def xcom(self, task_id: str, key: str = RETURNED, map_index: int = -1) -> Any:
        """Return an XCom, or None if the task instance pushed none of this key.

        :param map_index: -1 for a task that is not mapped
        """
        return self._pushed.get((task_id, map_index), {}).get(key)


class DagRunner:
    """Runs DAGs in this process, in the order of their tasks, by `DAG.test`; the fixture `run_dag`.

    :param home: the Airflow of the tests
    :param emulator: runs their notebooks
    """

    def __init__(self, home: AirflowHome, emulator: NotebookEmulator) -> None:
        self._home, self._emulator = home, emulator

    def __call__(
        self,
        dag: DAG | str | os.PathLike[str],
        *,
        dag_id: str | None = None,
        conf: Mapping[str, Any] | None = None,
        logical_date: datetime | None = None,
    ) -> DagRunResult:
        """Run a DAG once. A task that fails does not raise: its state says it.

        :param dag: the DAG, or the path of the file that defines it
        :param dag_id: of the DAG, if the file defines several
        :param conf: of the run, as ``dag_run.conf``
        :param logical_date: of the run; default: now
        :raises ValueError: if the file cannot be imported, or has no such DAG
        """
        self._home.make_database()
        if not isinstance(dag, DAG):
            dag = _dag_of(Path(dag), dag_id)
        store(dag)
        before = {job.name for job in self._emulator.jobs()}
        dated = {} if logical_date is None else {"logical_date": logical_date}
        run = dag.test(run_conf=dict(conf) if conf else None, **dated)  # type: ignore[arg-type]
        jobs = [job for job in self._emulator.jobs() if job.name not in before]
        return self._result(str(run.state), instances_of(run), jobs)

    def _result(self, state: str, instances: list[Instance], jobs: list[Job]) -> DagRunResult:
        by_name = {job.name: job for job in jobs}

        def executed(instance: Instance) -> dict[str, Any] | None:
            job = by_name.get((instance.xcoms.get(SUBMITTED) or {}).get("name", ""))
            return self._emulator.executed_notebook(job) if job else None

        submitted = {instance.task_id for instance in instances if SUBMITTED in instance.xcoms}
        return DagRunResult(
            state=state,
            states=_by_task(instances, lambda instance: instance.state),
            xcoms=_by_task(instances, lambda instance: instance.xcoms.get(RETURNED)),
            jobs=jobs,
            notebooks=_by_task([each for each in instances if each.task_id in submitted], executed),
            _pushed={(instance.task_id, instance.map_index): instance.xcoms for instance in instances},
        )


def _by_task(instances: list[Instance], value: Callable[[Instance], Any]) -> dict[str, Any]:
    """Return a value for each task, or a list for each mapped one."""
    found: dict[str, Any] = {}
    for instance in instances:
        if instance.map_index < 0:
            found[instance.task_id] = value(instance)
        else:
            found.setdefault(instance.task_id, []).append(value(instance))
    return found


def _dag_of(path: Path, dag_id: str | None) -> DAG:
    """Return the DAG of a file.

    :raises ValueError: if the file cannot be imported, or has no such DAG
    """
    if not path.is_file():
        raise ValueError(f"dag: {str(path)!r} is no file, in {os.getcwd()}")
    dags = dags_of(path)
    wanted = [dag_id] if dag_id is not None else list(dags)
    if len(wanted) != 1 or wanted[0] not in dags:
        found = ", ".join(sorted(dags)) or "none"
        asked = f"dag_id: {dag_id!r} is no DAG of {path}" if dag_id is not None else f"dag: {path} has not one DAG"
        raise ValueError(f"{asked}; its DAGs are {found}")
    return dags[wanted[0]]
