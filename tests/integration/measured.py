"""Do all that the metrics count, in a process whose Airflow sends them; see `test_metrics.py`.

It then prints a line, and ends as its standard input does.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from uuid import uuid4

from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_nbjob.exceptions import JobLost
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from tests.support.running import event_of
from tests.support.tasks import LOCATION, SLEEPING, arguments, make_context


def main() -> None:
    """Submit three jobs: one is adopted and ends, one fails in the triggerer, one is stopped; and ask for none."""
    run_id = f"run-{uuid4().hex}"
    context = make_context(run_id, retries=1, max_tries=1)
    with suppress(TaskDeferred):
        CreateNotebookExecutionJobOperator(**arguments(deferrable=True)).execute(context)
    again = make_context(run_id, retries=1, max_tries=1, try_number=2)
    again["dag_run"] = context["dag_run"]
    CreateNotebookExecutionJobOperator(**arguments(deferrable=False)).execute(again)

    failing = {"gcs_notebook_source": "gs://nbjob-examples/notebooks/failing.ipynb"}
    try:
        CreateNotebookExecutionJobOperator(**arguments(deferrable=True, **failing)).execute(make_context(uuid4().hex))
    except TaskDeferred as deferred:
        event_of(deferred.trigger)

    hook = NotebookExecutionJobHook()
    operator = CreateNotebookExecutionJobOperator(**arguments(deferrable=True, **SLEEPING))
    context = make_context(uuid4().hex)
    with suppress(TaskDeferred):
        operator.execute(context)
    hook.cancel_notebook_execution_job(name=context["ti"].pushed["notebook_execution_job"]["name"])
    with suppress(JobLost):
        hook.get_notebook_execution_job(name="none", location=LOCATION)
    print("done", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
