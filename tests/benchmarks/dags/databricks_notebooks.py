"""Databricks' notebooks, by the provider's operator as it is."""

from __future__ import annotations

from airflow.providers.databricks.operators.databricks import DatabricksNotebookOperator

from tests.benchmarks.whole_kinds import POLL_SECONDS, mapped

for numbers in mapped("databricks-notebook"):
    DatabricksNotebookOperator.partial(
        task_id="task",
        notebook_path="/bench/notebook",
        source="WORKSPACE",
        existing_cluster_id="bench",
        deferrable=True,
        polling_period_seconds=POLL_SECONDS,
    ).expand(notebook_params=[{"n": str(number)} for number in numbers])
