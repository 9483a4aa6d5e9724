"""Parameters in, results and the failing cell out: through the operator and the sensor, with real kernels."""

from __future__ import annotations

import json
import math
import uuid
from datetime import date

import nbformat
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG

from airflow_provider_nbjob.exceptions import InvalidJob, JobFailed, NotebookUnreadable
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor
from scripts.processes import BUCKET
from tests.support.airflow_versions import BundleDagBag
from tests.support.paths import CHECKOUT
from tests.support.repositories import commit
from tests.support.tasks import arguments, make_context

NOTEBOOKS = CHECKOUT / "tests" / "notebooks"
REPOSITORIES = "projects/emulator-project/locations/us-central1/repositories"


@pytest.fixture
def context():
    return make_context(f"run-{uuid.uuid4().hex}")


def cell(source: str, *tags: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})


def notebook(*cells: nbformat.NotebookNode) -> dict:
    return dict(nbformat.v4.new_notebook(cells=list(cells)))


def direct(*cells: nbformat.NotebookNode, **changes) -> CreateNotebookExecutionJobOperator:
    source = {"gcs_notebook_source": None, "direct_notebook_source": notebook(*cells)}
    return CreateNotebookExecutionJobOperator(**arguments(**{**source, **changes}))


def put(hook, content: bytes, name: str = "source.ipynb") -> str:
    """Upload a notebook; its URI."""
    uri = f"gs://{BUCKET}/sources/{uuid.uuid4().hex}/{name}"
    hook.files.upload_notebook(content, uri)
    return uri


def executed(service, result: dict) -> nbformat.NotebookNode:
    return nbformat.read(service.object_path(result["output_notebook_uri"]), as_version=4)


X = cell("x = 0", "parameters")
SHOW = cell("{'day': day, 'region': region, 'limit': limit}", "result")


def tagged() -> dict:
    """A notebook in papermill's style, with a cell that hands out what its parameters came to."""
    content = nbformat.read(NOTEBOOKS / "tagged.ipynb", as_version=4)
    content.cells.append(SHOW)
    return dict(content)


# --- parameters ---


def test_parameters_of_a_notebook_in_cloud_storage(service, hook, context, capsys):
    uri = put(hook, json.dumps(tagged()).encode())
    values = {"day": 'quote " backslash \\ newline \n and ünïcode', "region": [1, {"two": None}], "limit": 7}
    operator = CreateNotebookExecutionJobOperator(**arguments(gcs_notebook_source=uri, parameters=values))
    result = operator.execute(context)
    assert result["results"] == {"result": values}
    assert result["output_notebook_uri"].endswith("/content.ipynb")  # it was submitted as direct content
    assert executed(service, result).metadata["nbjob"]["source"] == uri
    log = capsys.readouterr().out
    assert f"The notebook was read from {uri}" in log
    assert "perhaps misspelt" not in log


def test_without_parameters_a_source_is_not_read(service, hook, context):
    uri = put(hook, json.dumps(tagged()).encode())
    for parameters in (None, {}):
        operator = CreateNotebookExecutionJobOperator(
            **arguments(gcs_notebook_source=uri, parameters=parameters, durable=False)
        )
        result = operator.execute(context)
        assert result["output_notebook_uri"].endswith("/source.ipynb")
        assert result["results"]["result"]["limit"] == 100


def test_a_generation_of_an_object_gets_the_parameters(service, hook, context):
    from airflow_provider_nbjob.hooks.clients import storage_client

    uri = put(hook, json.dumps(notebook(X, cell("('first', x)", "result"))).encode())
    generation = storage_client(hook).bucket(BUCKET).get_blob(uri.partition(f"{BUCKET}/")[2]).generation
    operator = CreateNotebookExecutionJobOperator(
        **arguments(gcs_notebook_source={"uri": uri, "generation": generation}, parameters={"x": 1})
    )
    assert operator.execute(context)["results"] == {"result": ["first", 1]}


@pytest.mark.parametrize("version", ["first", None])
def test_parameters_of_a_dataform_repository(service, context, version):
    name = f"repository-{uuid.uuid4().hex[:8]}"
    shas = {
        word: commit(
            service.data_dir / "dataform" / name,
            content=json.dumps(notebook(X, cell(f"({word!r}, x)", "result"))).encode(),
        )
        for word in ("first", "second")
    }
    source = {"dataform_repository_resource_name": f"{REPOSITORIES}/{name}"}
    if version:
        source["commit_sha"] = shas[version]
    operator = CreateNotebookExecutionJobOperator(
        **arguments(gcs_notebook_source=None, dataform_repository_source=source, parameters={"x": 2})
    )
    result = operator.execute(context)
    assert result["results"] == {"result": [version or "second", 2]}
    origin = executed(service, result).metadata["nbjob"]["source"]
    assert origin == f"{REPOSITORIES}/{name}" + (f"@{shas[version]}" if version else "")


def test_what_json_cannot_hold_comes_through(service, context):
    check = cell("[x != x, y, z is None, when.isoformat()]", "result")
    operator = direct(check, parameters={"x": math.nan, "y": True, "z": None, "when": date(2024, 2, 29)})
    assert operator.execute(context)["results"] == {"result": [True, True, True, "2024-02-29"]}


def test_a_parameter_that_the_notebook_does_not_know_is_a_warning(service, context, capsys):
    result = direct(cell("x = 1", "parameters"), cell("x", "result"), parameters={"x": 5, "y": 6}).execute(context)
    assert result["results"] == {"result": 5}
    assert "so perhaps misspelt: y" in capsys.readouterr().out


def test_a_notebook_that_is_too_large_for_a_request_is_uploaded(service, hook, context, monkeypatch):
    monkeypatch.setenv("AIRFLOW__NBJOB__DIRECT_CONTENT_MAX_BYTES", "500")
    operator = direct(X, cell("x", "result"), cell("#" * 500), parameters={"x": 3})
    result = operator.execute(context)
    assert result["results"] == {"result": 3}
    job = hook.get_notebook_execution_job(name=result["name"])
    assert job.gcs_notebook_source.uri == f"gs://{BUCKET}/runs/{result['job_id']}-source/content.ipynb"
    assert hook.files.find_output_notebook(job) == f"gs://{BUCKET}/runs/{result['job_id']}/content.ipynb"


def test_a_script_beside_the_dag_gets_parameters(service, context, tmp_path):
    (tmp_path / "notebooks").mkdir()
    script = '# %% tags=["parameters"]\nx = 1\n# %% tags=["result"]\nx * 2\n'
    (tmp_path / "notebooks" / "train.py").write_text(script)
    dag = DAG(dag_id="d")
    dag.fileloc = str(tmp_path / "dag.py")
    source = {"gcs_notebook_source": None, "direct_notebook_source": "notebooks/train.py"}
    operator = CreateNotebookExecutionJobOperator(**arguments(**source, parameters={"x": 21}), dag=dag)
    assert operator.execute(context)["results"] == {"result": 42}


def test_a_source_beside_the_dag_is_that_of_the_bundle_version(service, context, tmp_path):
    """As Airflow's worker loads a DAG, from the folder that a versioned bundle has for the run's version."""
    for version in ("1", "2"):
        folder = tmp_path / "versions" / version
        folder.mkdir(parents=True)
        (folder / "train.ipynb").write_text(json.dumps(notebook(cell(version, "result"))))
        settings = arguments(gcs_notebook_source=None, direct_notebook_source="train.ipynb", durable=False)
        (folder / "dag.py").write_text(
            "from airflow.sdk import DAG\n"
            f"from {CreateNotebookExecutionJobOperator.__module__} import CreateNotebookExecutionJobOperator\n"
            f"with DAG('d'):\n    CreateNotebookExecutionJobOperator(**{settings!r})\n"
        )
    for version in ("1", "2"):
        folder = tmp_path / "versions" / version
        bag = BundleDagBag(dag_folder=folder / "dag.py", safe_mode=False, bundle_path=folder)
        assert bag.dags["d"].task_dict["run_notebook"].execute(context)["results"] == {"result": int(version)}


@pytest.mark.test_all
@pytest.mark.parametrize("name", ["bash_language", "colab", "injected", "tagged", "untagged", "without_ids"])
def test_notebooks_as_the_public_writes_them_run_unchanged(service, context, capsys, name):
    values = {"day": "2024-05-06", "region": "apac", "limit": 3, "alpha": 0.5, "epochs": 2}
    if name == "bash_language":
        values = {"name": "it's", "count": 4, "words": ["a b", "$HOME"]}
    operator = CreateNotebookExecutionJobOperator(
        **arguments(
            gcs_notebook_source=None,
            direct_notebook_source=(NOTEBOOKS / f"{name}.ipynb").read_bytes(),
            parameters=values,
            log_output=True,
        )
    )
    assert operator.execute(context)["job_state"] == "JOB_STATE_SUCCEEDED"
    shown = {
        "bash_language": "it's|4|a b|$HOME",
        "colab": "2",
        "injected": "2024-05-06 3",
        "tagged": "2024-05-06 apac 3",
        "untagged": "3",
        "without_ids": "0.5",
    }
    lines = [line.partition("] ")[2].partition(" [airflow")[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert shown[name] in lines


# --- bad input ---


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<!DOCTYPE html><html>", "a page of HTML"),
        (b'{"cells": [', "is not JSON"),
        (b'{"nbformat": 3, "nbformat_minor": 0, "worksheets": []}', "notebook format 3"),
        (b"\x1f\x8b\x08\x00", "gzip"),
    ],
)
def test_a_source_that_is_no_notebook_is_named(service, hook, context, content, problem):
    uri = put(hook, content)
    operator = CreateNotebookExecutionJobOperator(**arguments(gcs_notebook_source=uri, parameters={"x": 1}))
    with pytest.raises(InvalidJob, match=problem) as error:
        operator.execute(context)
    assert str(error.value).startswith(f"gcs_notebook_source: {uri}: ")
    assert isinstance(error.value, AirflowFailException)
    assert service.calls().get("CreateNotebookExecutionJob", 0) == 0


def test_sources_that_are_not_there_are_named(service, context):
    missing = f"gs://{BUCKET}/none.ipynb"
    with pytest.raises(InvalidJob, match=f"gcs_notebook_source: there is no object '{missing}'"):
        CreateNotebookExecutionJobOperator(**arguments(gcs_notebook_source=missing, parameters={"x": 1})).execute(
            context
        )
    with pytest.raises(InvalidJob, match=r"query_repository_directory_contents of .*/none .* was not found"):
        CreateNotebookExecutionJobOperator(
            **arguments(
                gcs_notebook_source=None,
                dataform_repository_source=f"{REPOSITORIES}/none",
                parameters={"x": 1},
            )
        ).execute(context)


def test_a_parameter_that_cannot_be_passed_is_refused_when_the_dag_is_parsed():
    with pytest.raises(InvalidJob, match=r"parameters\['x'\]\[0\]: .* is of type set") as error:
        CreateNotebookExecutionJobOperator(**arguments(location="nowhere", parameters={"x": [{1, 2}]}))
    assert len(error.value.problems) == 2  # all faults at once


def test_a_rendered_parameter_that_cannot_be_passed_is_refused_before_the_submit(service, context):
    operator = CreateNotebookExecutionJobOperator(**arguments(parameters={"x": "{{ a_template }}"}))
    operator.parameters = {"x": object()}  # as rendering to native objects may leave it
    with pytest.raises(InvalidJob, match=r"parameters\['x'\]"):
        operator.execute(context)
    assert service.calls().get("CreateNotebookExecutionJob", 0) == 0


# --- results ---


def test_results_that_scrapbook_glued(service, context):
    glue = """
from IPython.display import display
def glue(name, data):
    mime = "application/scrapbook.scrap.json+json"
    display({mime: {"name": name, "data": data, "encoder": "json", "version": 1}}, raw=True,
            metadata={"scrapbook": {"name": name, "data": True, "display": False}})
glue("auc", 0.5)
glue("auc", 0.75)
glue("classes", ["a", "b"])
"""
    assert direct(cell(glue), cell("'ok'", "result:note")).execute(context)["results"] == {
        "auc": 0.75,
        "classes": ["a", "b"],
        "note": "ok",
    }


def test_results_that_are_too_large_become_null(service, context, capsys):
    operator = direct(cell("'x' * 2000", "result:large"), cell("1", "result:small"), result_max_bytes=1000)
    result = operator.execute(context)
    assert result["results"] == {"large": None, "small": 1}
    log = capsys.readouterr().out
    assert "results['large'] is dropped" in log
    assert f"hook.files.read_output_notebook('{result['output_notebook_uri']}')" in log


def test_without_results_the_notebook_of_a_success_is_not_read(service, hook, context, capsys):
    operator = direct(cell("1", "result"), wait_for_completion=False)
    name = operator.execute(context)["name"]
    done = hook.get_result(hook.wait_for_notebook_execution_job(name=name, poll_interval=0.2))
    hook.files.upload_notebook(b"no notebook any more", done.output_notebook_uri)
    for collect, is_read in ((False, False), (None, True)):
        sensor = NotebookExecutionJobSensor(
            task_id="wait", notebook_execution_job=name, collect_results=collect, poke_interval=1
        )
        result = sensor.execute(context)
        assert (result["job_state"], result["results"]) == ("JOB_STATE_SUCCEEDED", {})
        assert ("cannot be read: it is not JSON" in capsys.readouterr().out) == is_read


def test_a_notebook_that_is_too_large_is_not_read(service, context, capsys):
    result = direct(cell("1", "result"), max_output_bytes=10).execute(context)
    assert result["results"] == {}
    assert "bytes; at most 10 are read" in capsys.readouterr().out


def test_an_output_that_is_gone_says_so(service, hook):
    with pytest.raises(NotebookUnreadable, match="it is gone"):
        hook.files.read_executed_notebook(f"gs://{BUCKET}/runs/none.ipynb")


def test_outputs_go_to_the_log_where_asked_for(service, context, capsys):
    direct(cell("print('hello from the notebook')"), log_output=True).execute(context)
    log = capsys.readouterr().out
    assert "::group::Output of cell 1" in log
    assert "hello from the notebook" in log
    direct(cell("print('hello from the notebook')"), durable=False).execute(context)
    assert "hello from the notebook" not in capsys.readouterr().out


# --- the failing cell ---

FAILING = (
    cell("rows = {'north': 1}"),
    cell("rows['south']", "raises-exception"),
    cell("total = rows['west']\nprint(total)"),
    cell("print('never')"),
)


@pytest.mark.parametrize("deferred", [False, True])
def test_the_failing_cell_is_in_the_log_and_in_the_exception(service, hook, context, capsys, deferred):
    if deferred:
        operator = direct(*FAILING, wait_for_completion=False)
        name = operator.execute(context)["name"]
        hook.wait_for_notebook_execution_job(name=name, poll_interval=0.2)
        event = {"name": name, "job_state": "JOB_STATE_FAILED", "outcome": "finished", "message": ""}
        with pytest.raises(JobFailed) as error:
            operator.execute_complete(context, event)
    else:
        with pytest.raises(JobFailed) as error:
            direct(*FAILING).execute(context)
    failed = error.value
    assert (failed.cell, failed.ename, failed.evalue) == (3, "KeyError", "'west'")
    assert "total = rows['west']" in failed.traceback
    assert "\x1b" not in failed.traceback
    assert "Cell 3 raised KeyError: 'west'" in str(failed)
    assert not isinstance(failed, AirflowFailException)
    log = capsys.readouterr().out
    assert "::group::Cell 3 failed: KeyError: 'west'" in log
    assert "  | total = rows['west']" in log
    assert "::endgroup::" in log


def test_the_sensor_tells_the_failing_cell_too(service, hook, context):
    name = direct(*FAILING, wait_for_completion=False).execute(context)["name"]
    sensor = NotebookExecutionJobSensor(task_id="wait", notebook_execution_job=name, poke_interval=0.3)
    with pytest.raises(JobFailed) as error:
        sensor.execute(context)
    assert (error.value.cell, error.value.ename) == (3, "KeyError")
    assert isinstance(error.value, AirflowFailException)


def test_a_cell_that_may_raise_is_no_failure(service, context, capsys):
    result = direct(*FAILING[:2], cell("1", "result"), fail_on_cell_error=True).execute(context)
    assert result["results"] == {"result": 1}
    assert "failed" not in capsys.readouterr().out


def test_a_success_with_a_cell_that_raised(service, hook, context, capsys):
    name = direct(*FAILING, wait_for_completion=False).execute(context)["name"]
    hook.wait_for_notebook_execution_job(name=name, poll_interval=0.2)
    service.force_state(name.rpartition("/")[2], "JOB_STATE_SUCCEEDED")
    wait = {"task_id": "wait", "notebook_execution_job": name, "poke_interval": 0.3}
    assert NotebookExecutionJobSensor(**wait).execute(context)["job_state"] == "JOB_STATE_SUCCEEDED"
    assert "The job ended as JOB_STATE_SUCCEEDED, but cell 3 raised KeyError" in capsys.readouterr().out
    with pytest.raises(JobFailed, match="Cell 3 raised KeyError"):
        NotebookExecutionJobSensor(**wait, fail_on_cell_error=True).execute(context)


@pytest.mark.parametrize("fails", [False, True])
def test_a_retry_runs_a_success_again_only_where_its_cell_failed_the_task(service, hook, fails):
    run_id = f"run-{uuid.uuid4().hex}"
    operator = direct(*FAILING, fail_on_cell_error=fails, wait_for_completion=False)
    first = make_context(run_id, retries=1, max_tries=1)
    name = operator.execute(first)["name"]
    hook.wait_for_notebook_execution_job(name=name, poll_interval=0.2)
    service.force_state(name.rpartition("/")[2], "JOB_STATE_SUCCEEDED")
    second = make_context(run_id, retries=1, max_tries=1, try_number=2)
    second["dag_run"] = first["dag_run"]
    again = direct(*FAILING, fail_on_cell_error=fails, wait_for_completion=False).execute(second)["name"]
    assert (again == name) is not fails


def test_a_machine_that_never_started_has_no_cell(service, context):
    operator = direct(*FAILING, notebook_runtime_template_resource_name="fail-provisioning")
    with pytest.raises(JobFailed, match="No executed notebook was written below gs://") as error:
        operator.execute(context)
    assert error.value.cell is None
    assert "console.cloud.google.com/logs" in str(error.value)
