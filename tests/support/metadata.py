"""Rows of Airflow's metadata database, for tests and measurements of what reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.models import import_all_models
from airflow.models.base import Base
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from airflow.models.xcom import XComModel
from sqlalchemy import create_engine, insert
from sqlalchemy.engine import Connection, Engine

from airflow_provider_nbjob.job import JobName
from airflow_provider_nbjob.job.record import JOB_XCOM_KEY, record_of
from tests.support.airflow_versions import task_instance_id

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
TI, HISTORY, XCOM = TaskInstance.__table__, TaskInstanceHistory.__table__, XComModel.__table__


def record(job_id: str, *, try_number: int = 1, **end: Any) -> dict[str, Any]:
    """What a task tells of its job; `end` is what it adds when the job has ended, such as `job_state`."""
    told = record_of(
        job=JobName("123456789", "us-central1", job_id),
        project_id="analytics",
        gcs_output_uri="gs://analytics-runs/reports",
        connection={"gcp_conn_id": "google_cloud_default", "impersonation_chain": None, "api_endpoint": None},
        try_number=try_number,
    )
    return {**told, **end}


def ended(state: str, message: str = "", **more: Any) -> dict[str, Any]:
    """What a record has more once the job has ended in a state."""
    moment = START.isoformat()
    return {
        "job_state": state,
        "status": {"code": 0, "message": message},
        "create_time": moment,
        "update_time": moment,
        "output_notebook_uri": "gs://analytics-runs/reports/notebook.ipynb",
        "failed_cell": None,
        **more,
    }


def metadata_engine(url: str) -> Engine:
    """Return what connects to a metadata database, from any thread, without a check of its foreign keys."""
    if not url.startswith("postgresql"):
        return create_engine(url, connect_args={"check_same_thread": False}, future=True)
    return create_engine(url, connect_args={"options": "-c session_replication_role=replica"}, future=True)


@contextmanager
def airflow_database(url: str) -> Iterator[Engine]:
    """Make Airflow's tables in a database, and close it at the end."""
    engine = metadata_engine(url)
    import_all_models()
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


class Rows:
    """Gathers rows of three tables, and inserts them at once.

    No rows of others that they refer to are made: the connection must not check foreign keys, see `metadata_engine`.
    """

    def __init__(self) -> None:
        self._rows: dict[Any, list[dict[str, Any]]] = {TI: [], HISTORY: [], XCOM: []}
        self._runs: dict[tuple[str, str], int] = {}

    def task_instance(
        self,
        dag_id: str = "reports",
        task_id: str = "notebook",
        run_id: str = "run_1",
        *,
        map_index: int = -1,
        try_number: int = 1,
        state: str | None = "success",
        start: datetime | None = START,
        seconds: float | None = 60,
        rendered_map_index: str | None = None,
        told: Any = None,
        key: str = JOB_XCOM_KEY,
    ) -> None:
        """A task instance as it is now, with what it has in XCom where `told` is not `None`."""
        identity = {"dag_id": dag_id, "task_id": task_id, "run_id": run_id, "map_index": map_index}
        times = _times(start, seconds)
        shown = {"try_number": try_number, "state": state, "rendered_map_index": rendered_map_index}
        self._rows[TI].append({"id": task_instance_id(), **identity, **times, **shown, **_REQUIRED})
        if told is not None:
            run = self._runs.setdefault((dag_id, run_id), len(self._runs) + 1)
            # As the Execution API stores what a worker pushes: as JSON, not as a text of JSON.
            row = {"dag_run_id": run, "key": key, "value": told, "timestamp": start or START}
            self._rows[XCOM].append({**identity, **row})

    def earlier_try(
        self,
        dag_id: str = "reports",
        task_id: str = "notebook",
        run_id: str = "run_1",
        *,
        map_index: int = -1,
        try_number: int = 1,
        state: str = "failed",
        start: datetime | None = START,
        seconds: float | None = 60,
    ) -> None:
        """A try in the history of a task instance."""
        identity = {"dag_id": dag_id, "task_id": task_id, "run_id": run_id, "map_index": map_index}
        shown = {"try_number": try_number, "state": state, **_times(start, seconds)}
        self._rows[HISTORY].append({"task_instance_id": task_instance_id(), **identity, **shown, **_REQUIRED})

    def insert(self, connection: Connection) -> None:
        """Insert what was gathered since the last time."""
        for table, rows in self._rows.items():
            if rows:
                connection.execute(insert(table), rows)
                rows.clear()
        connection.commit()


_REQUIRED = {"pool": "default_pool", "pool_slots": 1, "max_tries": 3, "hostname": "", "span_status": "not_started"}


def _times(start: datetime | None, seconds: float | None) -> dict[str, Any]:
    end = start + timedelta(seconds=seconds) if start and seconds is not None else None
    return {"start_date": start, "end_date": end, "duration": seconds if end else None}
