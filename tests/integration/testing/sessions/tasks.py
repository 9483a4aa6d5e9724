"""Tests that a user could write, one for each kind of task; `test_run_dag.py` runs them in a session of their own."""

from pathlib import Path

import pytest

SOURCE = """
from datetime import timedelta

from airflow.sdk import DAG, TaskGroup, task

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator

where = dict(
    location="europe-west4",
    project_id="another-project",
    gcs_notebook_source="gs://ml-team/notebooks/day.ipynb",
    notebook_runtime_template_resource_name="t",
    service_account="a@p.iam.gserviceaccount.com",
    gcs_output_uri="gs://output-of-ml-team/runs",
)
unmapped = {name: value for name, value in where.items() if name != "gcs_notebook_source"}
Notebook = CreateNotebookExecutionJobOperator

with DAG("kinds", schedule=None):
    deferred = Notebook(task_id="deferred", deferrable=True, **where)
    fails = Notebook(task_id="fails", deferrable=False, **where)
    mapped = Notebook.partial(task_id="mapped", deferrable=True, **unmapped).expand(
        gcs_notebook_source=[f"gs://ml-team/notebooks/{name}.ipynb" for name in ("day", "week", "day")]
    )
    none = Notebook.partial(task_id="none", **where).expand(display_name=[])
    with TaskGroup("group"):
        retried = Notebook(task_id="Retried", retries=1, retry_delay=timedelta(0), deferrable=True, **where)

    @task
    def after(results):
        return results

    @task
    def conf(dag_run=None, logical_date=None):
        return {"conf": dag_run.conf, "year": logical_date.year}

    after(deferred.output["results"]["auc"])
    after.override(task_id="after_failure")(fails.output["results"]["auc"])
    conf()

with DAG("other", schedule=None):
    conf()
    after(Notebook(task_id="other", **where).output["results"]["auc"])
"""
BROKEN = "from airflow.sdk import DAG\nimport not_there_at_all\n"


@pytest.fixture(autouse=True)
def notebooks(nbjob_emulator, tmp_path):
    for name in ("day", "week"):
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            '{"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": ['
            '{"cell_type": "code", "source": "1", "metadata": {}, "outputs": [], "execution_count": null},'
            '{"cell_type": "code", "source": "2", "metadata": {}, "outputs": [], "execution_count": null}]}'
        )
    nbjob_emulator.upload(tmp_path / "notebooks", "gs://ml-team/notebooks")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "kinds.py"
    path.write_text(SOURCE)
    return path


def outputs(notebook, cell):
    return [output["output_type"] for output in notebook["cells"][cell - 1]["outputs"]]


def test_kinds_of_tasks(nbjob_emulator, run_dag, file):
    nbjob_emulator.script("deferred", results={"auc": 0.5})
    nbjob_emulator.script("fails", cell=1, error="KeyError: 'west'")
    nbjob_emulator.script("week.ipynb", state="EXPIRED")
    nbjob_emulator.script("mapped", map_index=2, results={"of": "the third"})
    nbjob_emulator.script("group.Retried", error="OSError", times=1)
    nbjob_emulator.fake_all()
    run = run_dag(file, dag_id="kinds", conf={"a": 1})
    assert run.state == "failed"
    assert run.states == {
        "deferred": "success",
        "fails": "failed",
        "mapped": ["success", "failed", "success"],
        "none": "skipped",
        "group.Retried": "success",
        "after": "success",
        "after_failure": "upstream_failed",
        "conf": "success",
    }
    assert run.xcoms["deferred"]["results"] == {"auc": 0.5}
    assert run.xcoms["after"] == 0.5
    assert run.xcoms["fails"] is None
    assert run.xcoms["conf"]["conf"] == {"a": 1}
    assert [each and each["results"] for each in run.xcoms["mapped"]] == [{}, None, {"of": "the third"}]
    assert run.xcom("mapped", map_index=2)["results"] == {"of": "the third"}
    assert run.xcom("fails", "notebook_execution_job")["name"] in [job.name for job in run.jobs]
    assert run.xcom("fails") is run.xcom("nobody", "x") is None
    assert outputs(run.notebooks["fails"], 1) == ["error"]
    assert outputs(run.notebooks["deferred"], 2) == ["display_data"]
    assert [notebook is not None for notebook in run.notebooks["mapped"]] == [True, True, True]
    assert set(run.notebooks) == {"deferred", "fails", "mapped", "group.Retried"}
    states = sorted(job.state.removeprefix("JOB_STATE_") for job in run.jobs)
    assert states == ["EXPIRED", "FAILED", "FAILED", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED"]
    (failed,) = [job for job in run.jobs if job.labels["airflow-task"] == "fails"]
    assert failed.message == "Cell 1 raised KeyError: 'west'"


def test_a_second_run_in_the_session_begins_anew(nbjob_emulator, run_dag, file):
    import pendulum

    assert nbjob_emulator.jobs() == []
    nbjob_emulator.script("other", message="There is no machine.")
    run = run_dag(str(file), dag_id="other", logical_date=pendulum.datetime(2020, 1, 1, tz="UTC"))
    assert run.states == {"other": "failed", "after": "upstream_failed", "conf": "success"}
    assert run.notebooks == {"other": None}
    assert run.xcoms["conf"] == {"conf": {}, "year": 2020}


def test_a_dag_that_the_test_makes(nbjob_emulator, run_dag):
    from airflow.sdk import DAG

    from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator

    nbjob_emulator.fake_all()
    nbjob_emulator.connect("ml_prod")
    nbjob_emulator.fault("CreateNotebookExecutionJob", "UNAVAILABLE", times=1, drop_response=True)
    for name in ("one", "two"):
        with DAG("made", schedule=None) as dag:
            CreateNotebookExecutionJobOperator(
                task_id=name,
                gcp_conn_id="ml_prod",
                location="us-central1",
                direct_notebook_source={"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": []},
                notebook_runtime_template_resource_name="t",
                service_account="a@p.iam.gserviceaccount.com",
                gcs_output_uri="gs://output/runs",
                deferrable=False,
            )
        run = run_dag(dag)
        assert run.states == {name: "success"}
        assert len(run.jobs) == 1
    assert len(nbjob_emulator.jobs()) == 2
    assert nbjob_emulator.calls()["CreateNotebookExecutionJob"] == 3


@pytest.mark.parametrize(
    ("path", "dag_id", "message"),
    [
        ("kinds.py", None, r"dag: .*kinds.py has not one DAG; its DAGs are kinds, other"),
        ("kinds.py", "kind", r"dag_id: 'kind' is no DAG of .*kinds.py; its DAGs are kinds, other"),
        ("kind.py", None, r"dag: '.*kind.py' is no file, in "),
        ("broken.py", None, r"(?s)broken.py cannot be imported:.*No module named 'not_there_at_all'"),
    ],
)
def test_a_file_that_cannot_be_used(run_dag, file, path, dag_id, message):
    file.with_name("broken.py").write_text(BROKEN)
    with pytest.raises(ValueError, match=message):
        run_dag(file.with_name(path), dag_id=dag_id)


def test_the_airflow_is_not_the_users(run_dag):
    import os

    from airflow.configuration import conf

    database = conf.get("database", "sql_alchemy_conn")
    assert database == f"sqlite:///{os.environ['AIRFLOW_HOME']}/metadata.db"
    assert "nbjob-airflow-" in database
    assert conf.get("secrets", "backend", fallback="") == ""
    assert os.environ["AIRFLOW_VAR_KEPT"] == "kept"
    assert not Path(os.environ["MINE"], "airflow.db").exists()
