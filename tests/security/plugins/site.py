"""The UI plugin as Airflow serves it: its routes, with a database of Airflow's tables, people, and a Google.

Google's clients are stood in for by `FakeWait`, and who may read what is told by `People`; all else is real.
"""

from __future__ import annotations

import json
import threading
from datetime import datetime, timedelta
from html import unescape
from typing import Any

import pytest
from airflow.api_fastapi.core_api.security import get_user
from airflow.models.dagrun import DagRun
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from fastapi import FastAPI, HTTPException, Request
from fastapi.testclient import TestClient
from sqlalchemy import insert, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DataError

from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.lifecycle.tries import Tries
from airflow_provider_nbjob.plugins.notebook_jobs import authorization, task_page
from airflow_provider_nbjob.plugins.notebook_jobs.app import app
from airflow_provider_nbjob.plugins.notebook_jobs.urls import URL_PREFIX
from tests.support.fake_google import FakeWait
from tests.support.fake_service import OUTPUT, PARENT, FakeService
from tests.support.fake_storage import FakeStorage
from tests.support.metadata import START, Rows

RUNS, RENDERED = DagRun.__table__, RenderedTaskInstanceFields.__table__
DAG, RUN, TASK = "reports", "run_1", "notebook"
QUERY = f"dag_id={DAG}&run_id={RUN}&task_id={TASK}"
ARGUMENTS = {
    "location": "us-central1",
    "project_id": None,
    "gcp_conn_id": "google_cloud_default",
    "impersonation_chain": None,
    "api_endpoint": None,
    "display_name": None,
    "notebook_execution_job_id": None,
    "gcs_output_uri": OUTPUT,
    "parameters": None,
}
EVERYTHING = frozenset({"DAG", "TASK_INSTANCE", "XCOM", "TASK_LOGS"})


class Person:
    """A user of Airflow.

    :param reads: what they may read of each DAG, by its id; of any other nothing
    """

    def __init__(self, name: str, reads: dict[str, frozenset[str]]) -> None:
        self.name, self.reads = name, reads

    def get_id(self) -> str:
        return self.name

    def get_name(self) -> str:
        return self.name


class People:
    """The users of Airflow, and its auth manager as far as it is asked."""

    def __init__(self) -> None:
        self.known = {"admin": Person("admin", {DAG: EVERYTHING})}

    def add(self, name: str, *reads: str, dag_id: str = DAG) -> str:
        self.known[name] = Person(name, {dag_id: frozenset({"DAG", *reads})})
        return name

    def user(self, request: Request) -> Person:
        """Return who asks; the header stands for the token, which is Airflow's matter."""
        person = self.known.get(request.headers.get("x-user", ""))
        if person is None:
            raise HTTPException(401, "Not authenticated")
        return person

    def is_authorized_dag(self, *, method, user, access_entity=None, details=None) -> bool:
        assert method == "GET"
        entity = access_entity.value if access_entity else "DAG"
        if details is None or details.id is None:
            return any(entity in may for may in user.reads.values())
        return entity in user.reads.get(details.id, ())

    def batch_is_authorized_dag(self, requests, *, user) -> bool:
        return all(self.is_authorized_dag(user=user, **request) for request in requests)

    def get_authorized_dag_ids(self, *, user, method="GET", **_) -> set[str]:
        return {dag_id for dag_id, may in user.reads.items() if "DAG" in may}


class StrictService(FakeService):
    """A `FakeService` that tells projects and locations apart, and notes down who is asked for.

    :param asked: names of the jobs that were asked for, in order
    :param gate: reads wait until it is open
    """

    def __init__(self, storage: FakeStorage) -> None:
        super().__init__(storage)
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def get_notebook_execution_job(self, request: Any, **options: Any) -> Any:
        self.asked.append(request.name)
        self.gate.wait()
        return super().get_notebook_execution_job(request, **options)

    def _course(self, name: str) -> list[Any]:
        from google.api_core.exceptions import NotFound

        if name not in self.jobs:
            raise NotFound(f"no job {name}")
        return self.jobs[name]


class Site:
    """The plugin, what Airflow's database has of one task instance, and Google."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = engine
        self._rows = Rows()
        self.people = People()
        self.google = FakeWait(monkeypatch)
        self.service = StrictService(self.google.storage)
        self.connections: list[tuple[Any, ...]] = []
        site = self

        def get_conn(hook: NotebookExecutionJobHook, location: str) -> StrictService:
            site.connections.append((hook.gcp_conn_id, hook.impersonation_chain, hook.api_endpoint, location))
            return site.service

        monkeypatch.setattr(NotebookExecutionJobHook, "get_conn", get_conn)
        monkeypatch.setattr(authorization, "get_auth_manager", lambda: self.people)
        monkeypatch.setitem(app.dependency_overrides, get_user, self.people.user)
        monkeypatch.setattr(task_page, "_outcomes", type(task_page._outcomes)())
        monkeypatch.setattr(task_page, "_google", type(task_page._google)())
        for cache in (task_page._views, task_page._documents):  # what tests before this one looked at
            for kept in vars(cache).values():
                if hasattr(kept, "clear"):
                    kept.clear()
        airflow = FastAPI(root_path="/airflow")
        airflow.mount(URL_PREFIX, app)
        self.client = TestClient(
            airflow, base_url="http://airflow.test/airflow", raise_server_exceptions=False, follow_redirects=False
        )

    # --- what tests put there ---

    def job_id(self, try_number: int = 1, **changes: Any) -> str:
        """Return the id that a try of the task instance computes."""
        of = {"dag_id": DAG, "run_id": RUN, "run_start": START, "task_id": TASK, "map_index": -1, **changes}
        return Tries(**of, current=try_number, first=1).job_id()

    def name(self, job_id: str | None = None, parent: str = PARENT) -> str:
        return f"{parent}/notebookExecutionJobs/{job_id or self.job_id()}"

    def task(
        self,
        record: Any = None,
        *,
        raw: str | None = None,
        dag_id: str = DAG,
        fields: dict[str, Any] | None = None,
        state: str = "success",
        **changes: Any,
    ) -> None:
        """Add a task instance with its record and its rendered arguments.

        :param record: value of the XCom; None: there is none
        :param raw: JSON of the record as it stands in the database, in place of `record`
        :param fields: rendered arguments beside `ARGUMENTS`; of an empty dict there are none
        """
        rows = self._rows
        identity = {"dag_id": dag_id, "task_id": TASK, "run_id": RUN, "map_index": changes.get("map_index", -1)}
        rows.task_instance(dag_id, TASK, RUN, state=state, told="x" if raw else record, **changes)
        with self.engine.connect() as connection:
            rows.insert(connection)
            if raw is not None:
                connection.execute(
                    text("UPDATE xcom SET value = :raw WHERE dag_id = :dag"), {"raw": raw, "dag": dag_id}
                )
            if connection.execute(RUNS.select().where(RUNS.c.dag_id == dag_id)).first() is None:
                run = {"dag_id": dag_id, "run_id": RUN, "run_type": "manual", "run_after": START, "start_date": START}
                connection.execute(insert(RUNS), {**run, "clear_number": 0, "span_status": "not_started"})
            if fields != {}:
                rendered = {**identity, "rendered_fields": {**ARGUMENTS, **(fields or {})}}
                connection.execute(insert(RENDERED), rendered)
            connection.commit()

    def stores(self, raw: str) -> bool:
        """Return whether the database takes a text for JSON: SQLite takes any, PostgreSQL what it can decode."""
        if self.engine.dialect.name == "sqlite":
            return True
        with self.engine.connect() as connection:
            try:
                connection.execute(text("SELECT CAST(:raw AS JSONB)"), {"raw": raw})
            except DataError:
                return False
        return True

    def job(self, name: str | None = None, *, notebook: Any = None, state: str = "SUCCEEDED", **changes: Any) -> str:
        """Add a job, with its executed notebook if there is one."""
        name = self.service.put(state, name=name or self.name(), **changes)
        if notebook is not None:
            uri = f"{changes.get('gcs_output_uri', OUTPUT)}/{name.rpartition('/')[2]}/content.ipynb"
            content = notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode()
            self.google.storage.put(uri, content)
        return name

    # --- what tests ask ---

    def get(self, path: str, *, user: str | None = "admin", **options: Any) -> Any:
        headers = {**({"x-user": user} if user else {}), **options.pop("headers", {})}
        return self.client.get(f"{URL_PREFIX}/{path}", headers=headers, **options)

    def shown(self, path: str = "task", status: int = 200, *, query: str = QUERY, user: str = "admin") -> str:
        """Return the text of a page, entities resolved."""
        answer = self.get(f"{path}?{query}", user=user)
        assert answer.status_code == status, answer.text[:2000]
        return unescape(answer.text)


def record_of(name: str, **changes: Any) -> dict[str, Any]:
    """Return the record of a job."""
    return {"name": name, "project_id": "p", "try_number": 1, "states": [], "job_state": None, **changes}


def cell(source: str = "", *outputs: dict[str, Any], tags: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "source": source,
        "execution_count": 1,
        "metadata": {"tags": list(tags)},
        "outputs": list(outputs),
    }


def printed(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text}


def notebook(*cells: dict[str, Any], parameters: Any = None) -> dict[str, Any]:
    metadata = {"language_info": {"name": "python"}}
    if parameters is not None:
        metadata["nbjob"] = {"parameters": parameters}
    return {"nbformat": 4, "nbformat_minor": 4, "metadata": metadata, "cells": list(cells)}


def later(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)
