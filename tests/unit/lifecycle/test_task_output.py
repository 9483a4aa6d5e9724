"""What `task.output` refers to, for other tasks: parts of the result, results by name, and nothing in silence."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
from airflow.sdk import DAG, BaseOperator, XComArg
from airflow.sdk.definitions.xcom_arg import serialize_xcom_arg

from airflow_provider_nbjob.exceptions import InvalidJob, NotebookExecutionJobError
from airflow_provider_nbjob.job import JobResult, JobState
from airflow_provider_nbjob.lifecycle.task_output import KEYS, KEYS_MAX
from airflow_provider_nbjob.links.notebook_execution_job import LINKS
from airflow_provider_nbjob.operators.notebook_execution_job import (
    CreateNotebookExecutionJobOperator,
    GetNotebookExecutionJobOperator,
)
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor
from tests.support.fake_google import FakeGoogle
from tests.support.fake_service import OUTPUT
from tests.support.notebooks import code, notebook, result, scrap
from tests.support.tasks import arguments, make_context

NAME = "projects/p/locations/us-central1/notebookExecutionJobs/j1"
RESULTS = {
    "auc": 0.5,
    "result": {"rows": 3, "scores": [0.1, {"deep": "x"}]},
    # Names that something else has too.
    "name": "of the model",
    "return_value": 7,
    "results": [1],
    "notebook_execution_job": "mine",
    "skipmixin_key": "skip",
    'it\'s a "name" }} {{ x }}': "quoted",
    "日本": "ja",
    "a/b": "path",
    "": "empty",
    "nothing": None,
}
RETURNED = {"name": NAME, "job_state": "JOB_STATE_SUCCEEDED", "output_error": None, "results": RESULTS}


def operator(kind: str = "create", **changes: Any) -> Any:
    if kind == "create":
        return CreateNotebookExecutionJobOperator(**{**arguments(gcs_output_uri=OUTPUT), "task_id": "train", **changes})
    made = NotebookExecutionJobSensor if kind == "sensor" else GetNotebookExecutionJobOperator
    return made(task_id="train", notebook_execution_job=NAME, **changes)


class TaskInstance:
    """What a reference asks of the task instance that uses it."""

    def __init__(self, pushed: dict[str, Any]) -> None:
        self._pushed = pushed

    def xcom_pull(self, *, task_ids: str, key: str = "return_value", default: Any = None, **_: Any) -> Any:
        assert task_ids == "train"
        return self._pushed.get(key, default)


def pulled(reference: Any, returned: Any = RETURNED, *, multiple_outputs: bool = True) -> Any:
    """Return what the reference comes to, after Airflow pushed what the task returned."""
    parts = {key: returned[key] for key in KEYS if key in returned} if multiple_outputs and returned else {}
    ti = TaskInstance({**parts, **({} if returned is None else {"return_value": returned})})
    return reference.resolve({"ti": ti})


@pytest.mark.parametrize("kind", ["create", "sensor"])
@pytest.mark.parametrize("multiple_outputs", [True, False])
@pytest.mark.parametrize("name", RESULTS)
def test_each_result_is_found_by_its_name(kind, multiple_outputs, name):
    output = operator(kind, multiple_outputs=multiple_outputs).output
    assert pulled(output["results"][name], multiple_outputs=multiple_outputs) == RESULTS[name]


@pytest.mark.parametrize("multiple_outputs", [True, False])
def test_what_is_in_a_result_is_found_too(multiple_outputs):
    found = operator(multiple_outputs=multiple_outputs).output["results"]["result"]
    assert pulled(found["rows"], multiple_outputs=multiple_outputs) == 3
    assert pulled(found["scores"][0], multiple_outputs=multiple_outputs) == 0.1
    assert pulled(found["scores"][-1]["deep"], multiple_outputs=multiple_outputs) == "x"


@pytest.mark.parametrize("multiple_outputs", [True, False])
def test_results_as_a_whole_and_other_parts_are_found_as_before(multiple_outputs):
    output = operator(multiple_outputs=multiple_outputs).output
    assert pulled(output, multiple_outputs=multiple_outputs) == RETURNED
    assert pulled(output["results"], multiple_outputs=multiple_outputs) == RESULTS
    assert pulled(output["name"], multiple_outputs=multiple_outputs) == NAME
    assert pulled(output["output_error"], multiple_outputs=multiple_outputs) is None


def test_another_xcom_of_the_task_is_pulled_by_its_key():
    output = operator(multiple_outputs=False).output
    pushed = TaskInstance({"notebook_execution_job": {"name": NAME}, "return_value": RETURNED})
    assert output["notebook_execution_job"].resolve({"ti": pushed}) == {"name": NAME}


@pytest.mark.parametrize("path", [["none"], ["result", "none"], ["auc", "x"], ["auc", 0], ["result", "scores", 2], [0]])
def test_a_result_that_is_not_there_is_an_error_that_names_those_that_are(path):
    reference = operator().output["results"]
    for step in path:
        reference = reference[step]
    with pytest.raises(NotebookExecutionJobError) as raised:
        pulled(reference)
    assert f"results[{path[0]!r}]" in str(raised.value)
    assert "It returned 'auc', 'result', 'name', 'return_value'" in str(raised.value)


def test_a_result_that_could_not_be_read_says_why():
    returned = {**RETURNED, "results": {}, "output_error": "Could not read gs://bucket/n.ipynb: 403"}
    expected = r"no results\['auc'\]\. It returned no results\. Its executed notebook was not read: .* 403"
    with pytest.raises(NotebookExecutionJobError, match=expected):
        pulled(operator().output["results"]["auc"], returned)


def test_a_task_that_did_not_run_has_no_results():
    assert pulled(operator().output["results"]["auc"], None) is None


@pytest.mark.parametrize("returned", [[RETURNED, None, RETURNED], (RETURNED, RETURNED)])
def test_of_a_mapped_task_group_there_is_one_each(returned):
    expected = [one and 0.5 for one in returned]
    assert pulled(operator().output["results"]["auc"], returned, multiple_outputs=False) == expected


@pytest.mark.parametrize(
    "changes", [{"collect_results": False}, {"wait_for_completion": False}, {"do_xcom_push": False}]
)
def test_a_task_that_returns_no_results_is_told_when_a_dag_is_parsed(changes):
    (name,) = changes
    with pytest.raises(InvalidJob, match=rf"{name}: False, but results\['auc'\] of task 'train' is used"):
        operator(**changes).output["results"]["auc"]
    assert operator(**changes).output["results"] is not None  # as a whole it is empty, as before


@pytest.mark.parametrize("odd", [1.5, None, True, ("a", "b"), slice(1)])
def test_what_is_no_name_is_refused_when_a_dag_is_parsed(odd):
    with pytest.raises(ValueError, match="names and indices"):
        operator().output["results"][odd]
    with pytest.raises(ValueError, match="str lookup"):
        operator().output[odd]


def test_it_cannot_be_iterated_or_mapped_over_by_mistake():
    for reference in (operator().output["results"], operator().output["results"]["auc"]):
        with pytest.raises(TypeError, match="not iterable"):
            list(reference)
        with pytest.raises(ValueError, match="custom key"):
            Using.partial(task_id="use").expand(value=reference)


class Using(BaseOperator):
    """A task that uses a value."""

    template_fields = ("value",)

    def __init__(self, *, value: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.value = value


def test_a_task_that_uses_a_result_runs_after_the_one_that_returns_it():
    with DAG("d", schedule=None):
        using = Using(task_id="use", value={"nested": [operator().output["results"]["result"]["rows"]]})
    assert using.upstream_task_ids == {"train"}
    context = {"ti": TaskInstance({**RETURNED, "return_value": RETURNED})}
    using.render_template_fields(context, jinja2.Environment())
    assert using.value == {"nested": [3]}


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("multiple_outputs", [True, False])
def test_in_a_text_it_is_a_template(name, multiple_outputs):
    with DAG("d", schedule=None):
        text = f"<{operator(multiple_outputs=multiple_outputs).output['results'][name]}>"
    ti = TaskInstance({"return_value": RETURNED})
    ti.xcom_pull = lambda task_ids, dag_id, key: TaskInstance.xcom_pull(ti, task_ids=task_ids, key=key)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    assert environment.from_string(text).render(task_instance=ti) == f"<{RESULTS[name]}>"


def test_it_is_serialized_as_a_reference_to_the_task():
    with DAG("d", schedule=None):
        reference = operator().output["results"]["auc"]
    assert serialize_xcom_arg(reference) == {"task_id": "train", "key": "results"}
    assert isinstance(reference, XComArg)
    assert repr(reference).endswith("'results')['auc']")


def test_a_job_that_is_only_read_has_no_results():
    output = GetNotebookExecutionJobOperator(task_id="train", notebook_execution_job=NAME).output
    with pytest.raises(NotebookExecutionJobError, match="It returned no results"):
        pulled(output["results"]["auc"], {**RETURNED, "results": {}})


# --- keys ---


def keys_of(results: dict[str, Any], **changes: Any) -> dict[str, Any]:
    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
    made = JobResult(NAME, "j1", JobState.SUCCEEDED, {"code": 0, "message": ""}, "d", "gs://b/runs", results=results)
    operator(**changes).push_keys(ti, made, SimpleNamespace(warning=lambda text, *values: told.append(text % values)))
    return pushed


told: list[str] = []


@pytest.fixture(autouse=True)
def nothing_told():
    told.clear()


def test_the_parts_that_people_use_have_keys_of_their_own():
    assert keys_of(RESULTS) == {
        "output_notebook_uri": None,
        "job_state": "JOB_STATE_SUCCEEDED",
        "results": RESULTS,
    }


@pytest.mark.parametrize("multiple_outputs", [True, False])
def test_others_have_one_that_are_asked_for(multiple_outputs):
    keys = ["auc", "nothing", "display_name", "auc", "job_state", "name"]
    found = keys_of(RESULTS, multiple_outputs=multiple_outputs, xcom_keys=keys)
    wanted = {"auc": 0.5, "nothing": None, "display_name": "d", "job_state": "JOB_STATE_SUCCEEDED", "name": NAME}
    assert found == {**wanted, **({"output_notebook_uri": None, "results": RESULTS} if multiple_outputs else {})}


def test_a_name_that_the_notebook_did_not_hand_out_is_told():
    assert "acu" not in keys_of(RESULTS, xcom_keys={"acu"})
    assert told == ["xcom_keys: the notebook handed out no result 'acu'"]


@pytest.mark.parametrize("kind", ["create", "sensor", "get"])
@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("auc", "'auc' is of type str; it must be a list of names"),
        ({"auc": 1}, "{'auc': 1} is of type dict; it must be a list of names"),
        (None, "None is of type NoneType; it must be a list of names"),
        (7, "7 is of type int; it must be a list of names"),
        (["a/b"], "'a/b' cannot be an XCom key: a letter, then at most 199 of A-Z a-z 0-9 _ - ."),
        ([""], "'' cannot be an XCom key: a letter, then at most 199 of A-Z a-z 0-9 _ - ."),
        (["日本"], "'日本' cannot be an XCom key: a letter, then at most 199 of A-Z a-z 0-9 _ - ."),
        (["x" * 201], "cannot be an XCom key: a letter, then at most 199 of A-Z a-z 0-9 _ - ."),
        ([5], "5 cannot be an XCom key: a letter, then at most 199 of A-Z a-z 0-9 _ - ."),
        (["return_value"], "'return_value' is the XCom key of something else"),
        (["notebook_execution_job"], "'notebook_execution_job' is the XCom key of something else"),
        (["skipmixin_key"], "'skipmixin_key' is the XCom key of something else"),
        ([LINKS[0].xcom_key], "cannot be an XCom key: a letter, then at most 199 of A-Z a-z 0-9 _ - ."),
        ([f"r{number}" for number in range(KEYS_MAX + 1)], "101 names; at most 100 can have an XCom key of their own"),
    ],
)
def test_what_cannot_be_a_key_is_refused_when_a_dag_is_parsed(kind, keys, problem):
    with pytest.raises(InvalidJob) as raised:
        operator(kind, xcom_keys=keys)
    assert raised.value.problems[0].startswith("xcom_keys: ")
    assert problem in raised.value.problems[0]


def test_no_keys_are_pushed_that_nobody_wants():
    assert keys_of(RESULTS, multiple_outputs=False) == {}
    assert keys_of(RESULTS, do_xcom_push=False, xcom_keys=["auc"]) == {}


def test_airflow_itself_pushes_the_return_value_only():
    assert not operator(multiple_outputs=True).multiple_outputs


@pytest.mark.parametrize("kind", ["create", "sensor"])
def test_a_task_pushes_its_keys(monkeypatch, kind):
    google = FakeGoogle(monkeypatch)
    google.service.executed = notebook(
        code("42", result({"text/plain": "42"}), tags=("result",)), code("glue", scrap("auc", 0.5), scrap("name", "x"))
    )
    context = make_context("r")
    returned = operator(xcom_keys=["auc"]).execute(context)
    if kind == "sensor":
        context = make_context("s")
        sensor = NotebookExecutionJobSensor(
            task_id="w", notebook_execution_job=returned["name"], xcom_keys=["auc"], location="us-central1"
        )
        returned = sensor.execute(context)
    assert returned["results"] == {"result": 42, "auc": 0.5, "name": "x"}
    keys = ("output_notebook_uri", "job_state", "results")
    pushed = {key: value for key, value in context["ti"].pushed.items() if key != "notebook_execution_job"}
    assert pushed == {**{key: returned[key] for key in keys}, "auc": 0.5}
