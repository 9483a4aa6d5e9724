"""Every example DAG, in a real Airflow and through `airflow dags test`, with what comes back by Airflow's REST API."""

from __future__ import annotations

import json
from datetime import date, timedelta

import nbformat
import pytest

from scripts.processes import BUCKET
from tests.support.paths import CHECKOUT
from tests.support.patience import wait_until

EXAMPLES = sorted(path.stem for path in (CHECKOUT / "example_dags").glob("example_*.py"))


def run_to_success(airflow, dag_id: str, conf: dict | None = None) -> str:
    run_id = airflow.trigger(dag_id, conf)
    state = airflow.wait_for_run(dag_id, run_id)
    states = {(ti["task_id"], ti["map_index"]): ti["state"] for ti in airflow.task_instances(dag_id, run_id)}
    assert state == "success", states
    assert set(states.values()) == {"success"}
    return run_id


def test_there_are_examples():
    assert {"example_notebook_job", "example_notebook_sources", "example_notebook_sensor"} < set(EXAMPLES)


@pytest.mark.essential
def test_a_deferred_job_and_its_result(airflow, emulator):
    run_id = run_to_success(airflow, "example_notebook_job")
    result = airflow.xcom("example_notebook_job", run_id, "run_notebook")
    assert result["job_state"] == "JOB_STATE_SUCCEEDED"
    assert airflow.xcom("example_notebook_job", run_id, "report") == result["output_notebook_uri"]
    executed = nbformat.read(emulator.object_path(result["output_notebook_uri"]), as_version=4)
    assert any("image/png" in o.get("data", {}) for cell in executed.cells for o in cell.get("outputs", []))
    reference = airflow.xcom("example_notebook_job", run_id, "run_notebook", key="notebook_execution_job")
    assert reference["name"] == result["name"]
    log = airflow.log("example_notebook_job", run_id, "run_notebook")
    assert "is JOB_STATE_SUCCEEDED" in log  # from the triggerer
    assert f"Executed notebook: {result['output_notebook_uri']}" in log  # from the worker


def test_links_on_the_task_page(airflow):
    run_id = run_to_success(airflow, "example_notebook_job")
    path = f"dags/example_notebook_job/dagRuns/{run_id}/taskInstances/run_notebook/links"
    links = airflow.request("GET", path)["extra_links"]
    job_id = airflow.xcom("example_notebook_job", run_id, "run_notebook")["job_id"]
    assert links["Notebook executions"].startswith("https://console.cloud.google.com/vertex-ai/colab/execution-jobs")
    assert links["Notebook output"].endswith(f"/{BUCKET}/runs/{job_id}")
    assert job_id in links["Notebook logs"]


def test_a_notebook_that_fails(airflow):
    run_id = airflow.trigger("example_notebook_job", {"notebook": "failing.ipynb"})
    assert airflow.wait_for_run("example_notebook_job", run_id) == "failed"
    states = {ti["task_id"]: ti["state"] for ti in airflow.task_instances("example_notebook_job", run_id)}
    assert states == {"run_notebook": "failed", "report": "upstream_failed"}
    log = airflow.log("example_notebook_job", run_id, "run_notebook")
    assert "::group::Cell 3 failed: KeyError: 'west'" in log
    assert "  | total = rows[" in log
    assert "  | rows = {" not in log  # of the notebook, the failing cell and no more


@pytest.mark.essential
def test_a_submit_whose_answer_is_lost_makes_one_job(airflow, emulator):
    earlier = set(emulator.submitted())
    emulator.fault("CreateNotebookExecutionJob", "UNAVAILABLE", times=2, drop_response=True)
    try:
        run_id = run_to_success(airflow, "example_notebook_job")
        assert emulator.calls()["CreateNotebookExecutionJob"] >= 3, "the fault did not come to pass"
    finally:
        emulator.reset()
    result = airflow.xcom("example_notebook_job", run_id, "run_notebook")
    assert set(emulator.submitted()) - earlier == {result["job_id"]}


def test_direct_and_dataform_sources(airflow):
    run_id = run_to_success(airflow, "example_notebook_sources")
    for task_id in ("direct", "dataform"):
        uri = airflow.xcom("example_notebook_sources", run_id, task_id)["output_notebook_uri"]
        assert uri.endswith("/content.ipynb")


def test_the_sensor_in_all_its_modes(airflow):
    run_id = run_to_success(airflow, "example_notebook_sensor")
    submitted = airflow.xcom("example_notebook_sensor", run_id, "submit")["name"]
    for task_id in ("poke", "reschedule", "deferrable"):
        result = airflow.xcom("example_notebook_sensor", run_id, task_id)
        assert (result["name"], result["job_state"]) == (submitted, "JOB_STATE_SUCCEEDED")


def test_mapped_notebooks_with_parameters_and_results(airflow):
    run_id = run_to_success(airflow, "example_mapped_notebooks")
    returned = [airflow.xcom("example_mapped_notebooks", run_id, "notebooks", map_index=index) for index in (0, 1)]
    results = [result["results"]["result"] for result in returned]
    assert [result["orders"] for result in results] == [300, 400]
    today, yesterday = (date.fromisoformat(result["day"]) for result in results)  # from templates
    assert today - yesterday == timedelta(days=1)
    gathered = airflow.xcom("example_mapped_notebooks", run_id, "gather")
    assert gathered == {result["day"]: result["revenue"] for result in results}


def test_an_asset_hands_the_result_to_another_dag(airflow):
    consumer = "example_notebook_assets_consumer"
    airflow.unpause(consumer)
    run_id = run_to_success(airflow, "example_notebook_assets")
    result = airflow.xcom("example_notebook_assets", run_id, "update_report")
    runs = wait_until(lambda: airflow.request("GET", f"dags/{consumer}/dagRuns")["dag_runs"], timeout=120, what="a run")
    (started,) = [run["dag_run_id"] for run in runs]
    assert airflow.wait_for_run(consumer, started) == "success"
    (published,) = airflow.xcom(consumer, started, "publish")
    assert published == {
        "job_name": result["name"],
        "job_state": "JOB_STATE_SUCCEEDED",
        "output_notebook_uri": result["output_notebook_uri"],
        "results": result["results"],
    }
    assert published["results"]["result"]["orders"] == 200


# `make demo` runs the first of them so, see `test_demo`.
@pytest.mark.parametrize("dag_id", [dag_id for dag_id in EXAMPLES if dag_id != "example_notebook_job"])
def test_each_example_through_dags_test(idle_airflow, dag_id):
    assert "DagRun Finished" in idle_airflow.command("dags", "test", dag_id)


def test_airflow_knows_the_provider(idle_airflow):
    def rows(*arguments: str) -> list[dict]:
        printed = idle_airflow.command("providers", *arguments, "-o", "json")
        return json.loads(printed[printed.index("[") :])

    assert "airflow-provider-nbjob" in {row["package_name"] for row in rows("list")}
    assert rows("get", "airflow-provider-nbjob")
    links = {row["extra_link_class_name"] for row in rows("links")}
    assert "airflow_provider_nbjob.links.notebook_execution_job.NotebookLogsLink" in links
    assert "airflow_provider_nbjob.triggers.notebook_execution_job" in {row["class"] for row in rows("triggers")}
