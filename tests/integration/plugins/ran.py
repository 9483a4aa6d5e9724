"""Tries of tasks that run on the emulator, with what Airflow's database would hold of them."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from types import SimpleNamespace

from airflow_provider_nbjob.job.record import parse_record
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from airflow_provider_nbjob.plugins.notebook_jobs.authorization import TaskRef
from airflow_provider_nbjob.plugins.notebook_jobs.task_data import TaskData, TaskTry
from scripts.processes import BUCKET
from tests.support.running import run_operator
from tests.support.tasks import LOCATION, arguments, make_context

WAY = {
    "location": LOCATION,
    "project_id": None,
    "gcp_conn_id": "google_cloud_default",
    "impersonation_chain": None,
    "api_endpoint": None,
}
FAILING = f"gs://{BUCKET}/notebooks/failing.ipynb"


class Ran:
    """A task instance whose tries ran here, and what Airflow's database would hold of it."""

    def __init__(self) -> None:
        self.run_id = f"run-{uuid.uuid4().hex}"
        self.start = datetime.now(timezone.utc)
        self.tries: list[TaskTry] = []
        self.record: dict | None = None

    def run(self, *, wait: bool = True, **changes) -> None:
        number = len(self.tries) + 1
        context = make_context(self.run_id, try_number=number, max_tries=5)
        context["dag_run"] = SimpleNamespace(start_date=self.start)
        operator = CreateNotebookExecutionJobOperator(**arguments(wait_for_completion=wait, **changes))
        try:
            run_operator(operator, context)
            state = "success"
        except Exception:
            state = "failed"
        self.tries.append(TaskTry(number, state, self.start, None))
        self.record = context["ti"].pushed["notebook_execution_job"]

    def data(self, try_number: int | None = None, **changes) -> TaskData:
        values = {
            "ref": TaskRef("d", self.run_id, "run_notebook", -1, try_number),
            "tries": tuple(self.tries),
            "run_start": self.start,
            "record": self.record,
            "fields": WAY,
            **changes,
        }
        return TaskData(**{**values, "record": parse_record(values["record"])})
