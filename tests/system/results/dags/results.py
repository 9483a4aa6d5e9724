"""A notebook that hands out results, and tasks that use them by every spelling, in a run of Airflow's own."""

from __future__ import annotations

from airflow.sdk import DAG, XComArg, task

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator

RESULT = '{"rows": n, "scores": [0.1, {"deep": "x"}]}'


def cell(source, *tags):
    code = {"cell_type": "code", "outputs": [], "execution_count": None}
    return {**code, "metadata": {"tags": list(tags)}, "source": source}


NOTEBOOK = {
    "nbformat": 4,
    "nbformat_minor": 4,
    "metadata": {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}},
    "cells": [
        cell("n = 3", "parameters"),
        cell(RESULT, "result"),
        cell("'of the model'", "result:name"),
        cell("n / 2", "result:half"),
    ],
}


def arguments(**changes):
    return {
        "location": "us-central1",
        "direct_notebook_source": NOTEBOOK,
        "notebook_runtime_template_resource_name": "template",
        "service_account": "notebooks@example-project.iam.gserviceaccount.com",
        "gcs_output_uri": "gs://ui-tests/results",
        "poll_interval": 1.0,
        **changes,
    }


@task
def use(value):
    """Return what it is given, as JSON."""
    return list(value) if not isinstance(value, (str, int, float, dict)) and value is not None else value


with DAG("results", schedule=None) as dag:
    train = CreateNotebookExecutionJobOperator(**arguments(task_id="train", deferrable=True, xcom_keys=["half"]))
    quiet = CreateNotebookExecutionJobOperator(**arguments(task_id="quiet_job", multiple_outputs=False))
    mapped = CreateNotebookExecutionJobOperator.partial(**arguments(task_id="mapped_jobs", xcom_keys=["half"])).expand(
        parameters=[{"n": 1}, {"n": 2}]
    )
    SPELLINGS = {
        "whole": train.output["results"],
        "one": train.output["results"]["half"],
        "deep": train.output["results"]["result"]["scores"][1]["deep"],
        "taken": train.output["results"]["name"],
        "part": train.output["name"],
        "text": f"{train.output['results']['half']} of {train.output['results']['result']['rows']}",
        "plain": XComArg(train)["results"]["half"],
        "quiet": quiet.output["results"]["result"]["rows"],
        "mapped": mapped.output["results"]["half"],
        "mapped_deep": mapped.output.map(lambda returned: returned["results"]["result"]["rows"]),
    }
    for name, value in SPELLINGS.items():
        if name == "mapped_deep":
            use.override(task_id=name).expand(value=value)
        else:
            use.override(task_id=name)(value)
        if name == "text":  # a text tells Airflow of no dependency
            train >> dag.get_task(name)
    use.override(task_id="missing")(train.output["results"]["none"])
