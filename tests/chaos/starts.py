"""The tasks that start in the triggerer, as Airflow's scheduler and triggerer hand them to the triggerer's runner."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.executors.workloads.trigger import RunTrigger
from airflow.sdk import DAG

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from tests.chaos.schedule import Task
from tests.chaos.storage import NAME
from tests.support.airflow_versions import deserialized, serialized
from tests.support.tasks import START
from tests.support.triggerer import task_of, workload

RUN_ID, TASK_ID = "chaos", "job"
UPSTREAM = "upstream"  # a task whose result these tasks use
# As `DagRun.dag_run_data` has it. The id of a job depends on it, so that each triggerer has to be given the same.
DAG_RUN = {
    "run_id": RUN_ID,
    "logical_date": START,
    "data_interval_start": START,
    "data_interval_end": START,
    "run_after": START,
    "start_date": START,
    "end_date": None,
    "run_type": "manual",
    "state": "running",
    "conf": {},
    "consumed_asset_events": [],
    "partition_key": None,
    "partition_date": None,
}


class StartedTask:
    """A task instance that the scheduler has deferred to the triggerer, in place of queueing it for a worker."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._dag = serialized(_dag_of(task))
        self._ti = task_of(task.id, dag_id=task.dag_id, task_id=TASK_ID, run_id=RUN_ID, map_index=-1)
        operator = deserialized(self._dag).get_task(TASK_ID)
        assert operator.start_from_trigger, "the scheduler gives it to a worker"
        self._args = operator.start_trigger_args
        # As `TaskInstance.defer_task` has it.
        limit = operator.execution_timeout
        self.timeout_after = datetime.now(timezone.utc) + limit if limit else None

    def workload(self) -> RunTrigger:
        """Return what each triggerer makes its trigger of (`TriggerRunnerSupervisor._create_workload`)."""
        return workload(
            self._task.id,
            self._args.trigger_cls,
            self._args.trigger_kwargs,
            self._ti,
            timeout_after=self.timeout_after,
            dag_data=self._dag,
            dag_run_data={"dag_id": self._task.dag_id, **DAG_RUN},
        )

    @property
    def is_timed_out(self) -> bool:
        """Whether the scheduler gives up the trigger now."""
        return self.timeout_after is not None and datetime.now(timezone.utc) > self.timeout_after


def _dag_of(task: Task) -> Any:
    arguments = {
        "location": task.location,
        "gcs_notebook_source": f"gs://{task.location}/{NAME}",
        "notebook_runtime_template_resource_name": "template",
        "service_account": "notebooks@chaos.iam.gserviceaccount.com",
        "gcs_output_uri": f"gs://{task.location}/runs",
    }
    with DAG(task.dag_id, schedule=None, start_date=START) as dag:
        upstream = CreateNotebookExecutionJobOperator(task_id=UPSTREAM, **arguments)
        CreateNotebookExecutionJobOperator(
            task_id=TASK_ID,
            gcp_conn_id=task.connection,
            labels={
                "day": "{{ ds }}",
                "pulled": f"{{{{ ti.xcom_pull('{UPSTREAM}')['results']['word'] }}}}",
                "given": upstream.output["results"]["word"],
            },
            poll_interval=task.interval,
            execution_timeout=None if task.deadline is None else timedelta(seconds=task.deadline),
            deferrable=True,
            start_from_trigger=True,
            **arguments,
        )
    return dag
