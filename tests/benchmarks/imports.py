"""What importing costs: the DAG processor, when it parses a DAG, and the worker, before it has deferred its task."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

from tests.benchmarks.kinds import SERVICE_VARIABLE

REPEATS = 5

OURS = "airflow_provider_nbjob"
PARSED = {
    "ours: operators and sensors": (
        f"{OURS}.operators.notebook_execution_job",
        f"{OURS}.sensors.notebook_execution_job",
        f"{OURS}.triggers.notebook_execution_job",
        f"{OURS}.links.notebook_execution_job",
    ),
    "Google: custom training": ("airflow.providers.google.cloud.operators.vertex_ai.custom_job",),
    "Google: hyperparameter tuning": ("airflow.providers.google.cloud.operators.vertex_ai.hyperparameter_tuning_job",),
    "Databricks: notebooks": ("airflow.providers.databricks.operators.databricks",),
    "Amazon: SageMaker notebooks": ("airflow.providers.amazon.aws.operators.sagemaker_unified_studio",),
}

MEASURE = """
import importlib, json, sys, time
import psutil
from airflow.sdk import DAG

def memory():
    return psutil.Process().memory_info().rss / 1e6

class Measure:
    def __enter__(self):
        self.memory, self.started = memory(), time.perf_counter()
    def __exit__(self, *_):
        print(json.dumps([time.perf_counter() - self.started, memory() - self.memory]), flush=True)
"""

PARSE = """
with Measure():
    for module in sys.argv[1].split():
        importlib.import_module(module)
"""

DEFER = """
from datetime import datetime, timezone
from types import SimpleNamespace
from airflow.sdk.exceptions import TaskDeferred
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
start = datetime.now(timezone.utc)
task = CreateNotebookExecutionJobOperator(
    task_id="wait", location="us-central1", gcs_notebook_source="gs://bench/notebook.ipynb", deferrable=True,
    notebook_runtime_template_resource_name="t", gcs_output_uri="gs://bench/output", execution_user="a@example.com",
)
ti = SimpleNamespace(dag_id="bench", task_id="wait", run_id=sys.argv[2], map_index=-1, try_number=1, max_tries=0,
                     start_date=start, xcom_push=lambda **_: None)
context = {"ti": ti, "task": task, "dag_run": SimpleNamespace(start_date=start)}
with Measure():
    if sys.argv[1] == "whole":
        import google.cloud.aiplatform_v1
    try:
        task.execute(context)
    except TaskDeferred:
        pass
    else:
        raise SystemExit("the task did not defer")
"""


def _run(script: str, *arguments: str) -> tuple[float, float]:
    process = subprocess.run(
        [sys.executable, "-c", MEASURE + script, *arguments], capture_output=True, text=True, check=True
    )
    seconds, megabytes = json.loads([line for line in process.stdout.splitlines() if line.startswith("[")][-1])
    return seconds, megabytes


def _medians(cases: dict[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    """Run each case so many times, by turns."""
    runs = [{name: _run(*case) for name, case in cases.items()} for _ in range(REPEATS)]
    return [
        {
            "what": name,
            "ms": statistics.median(run[name][0] for run in runs) * 1000,
            "mb": statistics.median(run[name][1] for run in runs),
        }
        for name in cases
    ]


def parsing() -> list[dict[str, Any]]:
    """Importing the operators' modules over `airflow.sdk`, of each provider that is installed."""
    return _medians(
        {
            name: (PARSE, " ".join(modules))
            for name, modules in PARSED.items()
            if all(_is_installed(module) for module in modules)
        }
    )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def deferring(service: Any) -> list[dict[str, Any]]:
    """From the start of `execute` to `TaskDeferred`, imports and the submit included."""
    os.environ[SERVICE_VARIABLE] = service.address
    service("begin", waiting=0)
    return _medians(
        {
            "ours": (DEFER, "alone", "run"),
            "ours, with Google's client package loaded whole": (DEFER, "whole", "run"),
        }
    )
