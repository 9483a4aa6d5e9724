"""The tasks that are compared in a whole Airflow: their names, and what their DAGs share.

The DAGs are in `dags`, each provider's in a file of its own: a worker imports all of the file that its task is in.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

TASKS_VARIABLE, SECONDS_VARIABLE = "NBJOB_BENCH_TASKS", "NBJOB_BENCH_SECONDS"
POLL_SECONDS = 10  # of all that poll, whatever their defaults are
WARM_UP = "warm-up"
FEW = 2  # tasks of each kind that are run before any is measured
# Airflow 3.3.2 fails a deferred task that resumes before its supervisor has noticed, up to `[workers]
# min_heartbeat_interval` (5 s) late, that the process that deferred it has ended.
SECONDS_AT_LEAST = 8.0


def _needs_nothing() -> str:
    return ""


def _lacks_start_from_trigger() -> str:
    from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator

    has = "start_from_trigger" in inspect.signature(CreateNotebookExecutionJobOperator.__init__).parameters
    return "" if has else "CreateNotebookExecutionJobOperator has no argument `start_from_trigger`"


def _lacks_databricks() -> str:
    try:
        has = find_spec("airflow.providers.databricks") is not None
    except ModuleNotFoundError:
        has = False
    return "" if has else "apache-airflow-providers-databricks is not installed; the extra `bench` has it"


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    :param title: by which the table names it
    :param file: of `dags`, which has its DAGs
    :param lacks: returns what is missing to measure it, or an empty text
    """

    title: str
    file: str
    lacks: Callable[[], str] = _needs_nothing


EMPTY, DEFERRED, IN_TRIGGERER = "empty", "bare-deferred", "bare-in-triggerer"
OURS, OURS_IN_TRIGGERER = "notebook-deferrable", "notebook-from-trigger"
PEERS = ("databricks-notebook", "google-training")
# In the order in which they are measured: a triggerer keeps what it imported for one kind, and Google's is the most.
KINDS = {
    EMPTY: Kind("an empty task", "bare.py"),
    DEFERRED: Kind("a bare deferred task", "bare.py"),
    IN_TRIGGERER: Kind("a bare task that starts and ends in the triggerer", "bare.py"),
    OURS: Kind("ours, deferrable", "notebooks.py"),
    OURS_IN_TRIGGERER: Kind("ours, start_from_trigger", "notebooks.py", _lacks_start_from_trigger),
    "sensor-deferrable": Kind("our sensor, deferrable", "notebooks.py"),
    "notebook-blocking": Kind("ours, blocking", "notebooks.py"),
    PEERS[0]: Kind("Databricks: notebook, deferrable", "databricks_notebooks.py", _lacks_databricks),
    PEERS[1]: Kind("Google: custom training, deferrable", "google_training.py"),
}


def dag_id(kind: str, tasks: int) -> str:
    """Return the id of the DAG with so many mapped tasks of a kind."""
    return f"{kind}_{tasks}"


def seconds_of_job() -> float:
    """Return for how long a job runs, or a bare task sleeps."""
    return float(os.environ[SECONDS_VARIABLE])


def mapped(kind: str) -> Iterator[list[int]]:
    """Yield, within a DAG for each number of tasks, the numbers to map the tasks over."""
    from airflow.sdk import DAG

    for tasks in map(int, os.environ[TASKS_VARIABLE].split()):
        with DAG(dag_id(kind, tasks), schedule=None, max_active_tasks=1000):
            yield list(range(tasks))
