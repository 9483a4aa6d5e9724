"""Notebook jobs, in each way in which a task can wait for one."""

from __future__ import annotations

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor
from tests.benchmarks.whole_kinds import KINDS, OURS, OURS_IN_TRIGGERER, POLL_SECONDS, mapped

LOCATION = {"task_id": "task", "location": "us-central1"}
JOB = {
    **LOCATION,
    "gcs_notebook_source": "gs://bench/notebook.ipynb",
    "notebook_runtime_template_resource_name": "template",
    "execution_user": "bench@example.com",
    "gcs_output_uri": "gs://bench/output",
    "poll_interval": POLL_SECONDS,
}
HOW = {
    OURS: {"deferrable": True},
    OURS_IN_TRIGGERER: {"deferrable": True, "start_from_trigger": True},
    "notebook-blocking": {"deferrable": False},
}

for kind, how in HOW.items():
    if not KINDS[kind].lacks():
        for numbers in mapped(kind):
            labels = [{"n": str(number)} for number in numbers]
            CreateNotebookExecutionJobOperator.partial(**JOB, **how).expand(labels=labels)

for numbers in mapped("sensor-deferrable"):
    # Each run waits for jobs of its own: the service makes one that is asked for.
    NotebookExecutionJobSensor.partial(**LOCATION, deferrable=True, poke_interval=POLL_SECONDS).expand(
        notebook_execution_job=[f"waited-{number}-{{{{ run_id[-12:] }}}}" for number in numbers]
    )
