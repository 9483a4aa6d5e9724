"""Arguments of the operators and the sensor: what is refused when, and that it is never retried."""

from __future__ import annotations

import json
import pickle
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, TaskGroup
from airflow.sdk.bases.operator import BaseOperator

from airflow_provider_nbjob.arguments.notebook_argument import SERIALIZED_NOTEBOOK_MAX_BYTES
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.operators.notebook_execution_job import (
    CreateNotebookExecutionJobOperator,
    DeleteNotebookExecutionJobOperator,
    GetNotebookExecutionJobOperator,
    ListNotebookExecutionJobsOperator,
)
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor
from tests.support.airflow_versions import serialized
from tests.support.fake_google import FakeGoogle
from tests.support.notebooks import code, notebook
from tests.support.tasks import arguments, make_context

NAME = "projects/p/locations/us-central1/notebookExecutionJobs/j1"
CREATE = arguments(poll_interval=10)
ON_A_JOB = {"task_id": "t", "notebook_execution_job": NAME}
LISTING = {"task_id": "t", "location": "us-central1"}
KINDS = [
    pytest.param(CreateNotebookExecutionJobOperator, CREATE, id="create"),
    pytest.param(GetNotebookExecutionJobOperator, ON_A_JOB, id="get"),
    pytest.param(DeleteNotebookExecutionJobOperator, ON_A_JOB, id="delete"),
    pytest.param(ListNotebookExecutionJobsOperator, LISTING, id="list"),
    pytest.param(NotebookExecutionJobSensor, ON_A_JOB, id="sensor"),
]
BOOLEANS = ["accept_partial_success", "collect_results", "log_output", "fail_on_cell_error", "deferrable"]
CREATE_BOOLEANS = [*BOOLEANS, "wait_for_completion", "cancel_on_kill", "durable", "default_labels"]

# Every argument that is wrong on its own, by the kind of task.
WRONG: list[tuple[str, str, Any]] = [
    *[("create", name, value) for name in CREATE_BOOLEANS for value in ("false", "{{ x }}", 1)],
    *[("create", name, None) for name in CREATE_BOOLEANS if name != "collect_results"],
    *[("sensor", name, value) for name in BOOLEANS for value in ("false", 0)],
    *[("sensor", name, None) for name in BOOLEANS if name != "collect_results"],
    *[(kind, "on_output_error", value) for kind in ("create", "sensor") for value in ("", "ignore", True)],
    *[("create", "poll_interval", v) for v in ("10", "{{ x }}", 0, -1, float("nan"), True, None, timedelta(-1), [10])],
    *[(k, "result_max_bytes", v) for k in ("create", "sensor") for v in ("48 KiB", "1000", 1e6, -1, True, None)],
    *[(k, "max_output_bytes", v) for k in ("create", "sensor") for v in ("1", 0, 1.5, False, None)],
    *[("list", "max_results", value) for value in ("10", 0, -5, 1.5, True, None)],
    *[("list", name, 7) for name in ("filter", "order_by")],
    *[("list", "location", value) for value in (None, "mars", "us-central1-a", 7, "global")],
    *[("delete", "ignore_if_missing", value) for value in ("no", 1, None)],
    *[(k, "location", value) for k in ("create", "get", "delete", "sensor") for value in ("mars", 7, "global")],
    *[
        (k, "notebook_execution_job", value)
        for k in ("get", "delete", "sensor")
        for value in ("", 7, "My Job", f"{NAME}/x", "projects/p", "j1", ["j1"])
    ],
    *[(k, "project_id", v) for k in ("create", "get", "delete", "list", "sensor") for v in ("No Project", 1.5, True)],
    *[(k, "gcp_conn_id", v) for k in ("create", "get", "delete", "list", "sensor") for v in (None, "", 7, ["a"])],
    *[(k, "api_endpoint", v) for k in ("create", "get", "delete", "list", "sensor") for v in (7, ["http://x"])],
    *[
        (k, "impersonation_chain", v)
        for k in ("create", "get", "delete", "list", "sensor")
        for v in (7, "nobody", ["a@p.iam.gserviceaccount.com", "b c"], {"a": "b"}, [None])
    ],
    *[("sensor", name, value) for name in ("created_after", "created_before") for value in ("noon", 7)],
    ("create", "labels", {"Team": "a"}),
    ("create", "labels", {"a": "b" * 65}),
    ("create", "labels", {f"k{number}": "" for number in range(65)}),
    ("create", "labels", ["a"]),
    ("create", "custom_environment_spec", {"machine_typ": "n1"}),
    ("create", "job_timeout", "soon"),
    ("create", "job_timeout", float("nan")),
    ("create", "parameters", {"a b": 1}),
    ("create", "parameters", [1]),
    ("create", "secret_parameters", {"token": "a/b/c"}),
    ("create", "direct_notebook_source", 7),
    ("create", "direct_notebook_source", [1]),
    ("create", "direct_notebook_source", "gs://bucket/n.ipynb"),
    ("create", "workbench_runtime", {"x": 1}),
]
BY_ID = {param.id: param.values for param in KINDS}


def made(kind: str, **changes: Any) -> BaseOperator:
    task, values = BY_ID[kind]
    return task(**{**values, **changes})


@pytest.mark.parametrize(("kind", "field", "value"), WRONG)
def test_what_is_wrong_is_refused_at_parse_time(kind, field, value):
    with pytest.raises(InvalidJob) as caught:
        made(kind, **{field: value})
    assert caught.value.problems
    assert all(field in p or (field == "notebook_execution_job") for p in caught.value.problems), caught.value.problems
    # A mapped task is made on the worker: there, too, it is not to be tried again.
    assert isinstance(caught.value, AirflowFailException)
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems


# A bare id lacks only a location, which may still come, and a sensor without a job may still get a schedule.
NOT_ALONE = ("sensor", "notebook_execution_job", "")
WRONG_ALONE = [wrong for wrong in WRONG if wrong[2] not in (None, "j1") and wrong != NOT_ALONE]


@pytest.mark.parametrize(("kind", "field", "value"), WRONG_ALONE)
def test_what_is_wrong_is_refused_in_a_partial(kind, field, value):
    task, values = BY_ID[kind]
    with pytest.raises(InvalidJob) as caught:
        task.partial(**{**values, field: value})
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize(("kind", "field", "value"), [w for w in WRONG if w[2] not in (None, "j1", "")])
def test_what_is_wrong_is_refused_in_what_a_task_is_expanded_with(kind, field, value):
    task, values = BY_ID[kind]
    given = {name: item for name, item in values.items() if name != field}
    with DAG("d"), pytest.raises(InvalidJob) as caught:
        task.partial(**given).expand(**{field: [value]})
    assert any("value 0 of expand" in problem for problem in caught.value.problems)
    with DAG("d"), pytest.raises(InvalidJob) as caught:
        task.partial(**given).expand_kwargs(
            [{field: values.get(field, None)} if field in values else {}, {field: value}]
        )
    assert any("item 1 of expand_kwargs" in problem for problem in caught.value.problems)


@pytest.mark.parametrize(("task", "values"), KINDS)
def test_what_is_right_can_be_mapped(task, values):
    with DAG("d"):
        task.partial(**values).expand(project_id=["p", "q"])
        task.partial(**{**values, "task_id": "u"}).expand_kwargs([{"project_id": "p"}, {"project_id": 123}])
        upstream = BaseOperator(task_id="upstream")
        task.partial(**{**values, "task_id": "v"}).expand(project_id=upstream.output)
        task.partial(task_id="w").expand_kwargs(upstream.output)


def test_what_a_mapped_task_lacks_is_told_at_parse_time():
    given = {name: value for name, value in CREATE.items() if name not in ("gcs_output_uri", "service_account")}
    with DAG("d"), pytest.raises(InvalidJob) as caught:
        CreateNotebookExecutionJobOperator.partial(**given).expand(parameters=[{"x": 1}])
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "gcs_output_uri",
        "service_account, execution_user",
    ]
    with DAG("d"), pytest.raises(InvalidJob, match=r"location: required"):
        ListNotebookExecutionJobsOperator.partial(task_id="t").expand(filter=["a", "b"])


@pytest.mark.parametrize("where", ["dag", "group", "partial"])
def test_default_arguments_count_for_mapped_tasks(where):
    values = {name: value for name, value in CREATE.items() if name not in ("location", "service_account", "task_id")}
    defaults = {"location": "us-central1", "service_account": CREATE["service_account"], "owner": "me"}
    of = {name: {"default_args": defaults} if where == name else {} for name in ("dag", "group", "partial")}
    with DAG("d", **of["dag"]), TaskGroup("g", **of["group"]):
        partial = CreateNotebookExecutionJobOperator.partial(task_id="t", **values, **of["partial"])
        assert partial.expand(parameters=[{"x": 1}]).task_id == "g.t"


def test_a_default_argument_that_is_wrong_is_refused_in_a_mapped_task():
    values = {name: value for name, value in CREATE.items() if name != "location"}
    with DAG("d", default_args={"location": "mars"}), pytest.raises(InvalidJob, match="location: 'mars'"):
        CreateNotebookExecutionJobOperator.partial(**values).expand(parameters=[{"x": 1}])


def test_airflow_still_refuses_what_it_refuses():
    with DAG("d"), pytest.raises(TypeError, match="unexpected keyword argument"):
        CreateNotebookExecutionJobOperator.partial(**CREATE, lables={})
    with DAG("d"), pytest.raises(TypeError, match="unmappable or already specified"):
        CreateNotebookExecutionJobOperator.partial(**CREATE).expand(location=["us-central1"])


def test_a_mapped_task_leaves_no_warning():
    with warnings.catch_warnings(), DAG("d"):
        warnings.simplefilter("error")
        GetNotebookExecutionJobOperator.partial(task_id="t").expand(notebook_execution_job=[NAME])


def test_many_wrong_elements_are_told_in_few_lines():
    with DAG("d"), pytest.raises(InvalidJob) as caught:
        GetNotebookExecutionJobOperator.partial(task_id="t").expand(notebook_execution_job=["My Job"] * 500)
    assert len(caught.value.problems) < 30
    assert "more like these" in caught.value.problems[-1]


# --- templates beside what is known ---


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"parameters": {"day": "{{ ds }}", "a b": 1}}, "parameters['a b']"),
        ({"parameters": {"day": "{{ ds }}", "when": timedelta(1)}}, "parameters['when']"),
        ({"parameters": {"deep": [{"day": "{{ ds }}"}, {"x": b"bytes"}]}}, "parameters['deep'][1]['x']"),
        ({"parameters": {"day": "{# a day #}", "ids": {1, 2}}}, "parameters['ids']"),
        ({"secret_parameters": {"a": "{{ s }}", "b": "a/b/c"}}, "secret_parameters['b']"),
        ({"secret_parameters": {"a b": "{{ s }}"}}, "secret_parameters['a b']"),
        ({"secret_parameters": {"a": "s"}, "parameters": {"a": "{{ ds }}"}}, "given twice"),
        ({"labels": {"a": "{{ ds }}", "B": "b"}}, "labels: key 'B'"),
        ({"labels": {"a": "{{ ds }}", "b": 1}}, "labels: value 1"),
        ({"gcs_notebook_source": {"uri": "{{ ds }}", "generation": "new"}}, "generation 'new'"),
        ({"gcs_notebook_source": {"uri": "{{ ds }}", "version": 1}}, "unknown key 'version'"),
        ({"encryption_spec": {"kms_key_name": "{{ ds }}", "x": 1}}, "encryption_spec: unknown key 'x'"),
        ({"impersonation_chain": ["{{ ds }}", "nobody"]}, "impersonation_chain: 'nobody'"),
        (
            {
                "notebook_runtime_template_resource_name": None,
                "custom_environment_spec": {"machine_spec": {"machine_type": "{{ m }}", "accelerator_type": "L5"}},
            },
            "'L5' is not one of",
        ),
    ],
)
def test_a_template_leaves_what_stands_beside_it_to_be_checked(fields, problem):
    with pytest.raises(InvalidJob) as caught:
        made("create", **fields)
    assert len(caught.value.problems) == 1, caught.value.problems
    assert problem in caught.value.problems[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"kernel_name": "{{ params.kernel }}"},
        {"kernel_name": "python3", "workbench_runtime": "{{ params.runtime }}"},
        {"execution_user": "{{ params.user }}"},
        {"execution_user": "{{ params.user }}", "service_account": "{{ params.account }}"},
        {"execution_user": "{{ params.user }}", "service_account": None, "workbench_runtime": {}},
        {"execution_user": "a@example.com", "service_account": None, "workbench_runtime": "{{ x }}"},
        {"direct_notebook_source": "{% if params.n %}a.ipynb{% else %}b.ipynb{% endif %}", "gcs_notebook_source": None},
        {"direct_notebook_source": "{# daily #}missing.ipynb", "gcs_notebook_source": None},
        {
            "gcs_notebook_source": "{{ a }}",
            "direct_notebook_source": "{{ b }}",
            "dataform_repository_source": "{{ c }}",
        },
        {"custom_environment_spec": "{{ spec }}"},
        {"custom_environment_spec": {"machine_spec": "{{ spec }}"}, "notebook_runtime_template_resource_name": None},
        {"labels": {"a": "{{ ds }}"}, "location": "{{ l }}", "notebook_runtime_template_resource_name": "{{ t }}"},
        {"parameters": "{{ p }}", "secret_parameters": "{{ s }}", "project_id": "{{ p }}", "gcp_conn_id": "{{ c }}"},
        {"job_timeout": "{{ t }}", "encryption_spec": "{{ k }}", "impersonation_chain": "{{ c }}"},
        {"poll_interval": timedelta(seconds=30)},
        {"kernel_name": "", "execution_user": ""},
        {"project_id": 123456789, "impersonation_chain": "a@p.iam.gserviceaccount.com, b@p.iam.gserviceaccount.com"},
        {"result_max_bytes": 0, "labels": {}, "api_endpoint": None},
    ],
)
def test_what_may_come_out_right_is_not_refused(fields):
    made("create", **fields)


@pytest.fixture
def google(monkeypatch) -> FakeGoogle:
    return FakeGoogle(monkeypatch)


def executed(kind: str, *, native: bool, variables: dict[str, Any], **fields: Any) -> Any:
    """Make a task in a DAG, render its templates as Airflow does, and execute it."""
    with DAG(dag_id="d", render_template_as_native_obj=native):
        task = made(kind, **fields)
    context = {**make_context("r"), **variables}
    task.render_template_fields(context)
    return task.execute(context)


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize(
    "fields",
    [
        {"kernel_name": "{{ nothing }}"},
        {"execution_user": "{{ nothing }}"},
        {"direct_notebook_source": "{{ nothing }}", "dataform_repository_source": "{{ nothing }}"},
        {"custom_environment_spec": "{{ nothing }}"},
        {"job_timeout": "{{ nothing }}", "encryption_spec": "{{ nothing }}"},
    ],
)
def test_a_template_that_comes_out_as_nothing_is_not_given(google, native, nothing, fields):
    executed("create", native=native, variables={"nothing": nothing}, wait_for_completion=False, **fields)
    (submitted,) = google.service.submitted
    assert submitted.gcs_notebook_source.uri == CREATE["gcs_notebook_source"]
    assert (submitted.kernel_name, submitted.execution_user) == ("", "")


# What templates come to: the wrong types too.
RENDERED = [
    *[
        ("create", name, value)
        for name in ("location", "service_account", "labels", "parameters")
        for value in (7, [1])
    ],
    *[("create", name, 7) for name in ("gcs_output_uri", "kernel_name", "encryption_spec", "display_name")],
    ("create", "custom_environment_spec", {"machine_spec": {"accelerator_type": "NVIDIA_L5"}}),
    ("create", "custom_environment_spec", {"machine_spec": {"accelerator_count": "many"}}),
    ("create", "custom_environment_spec", [1]),
    ("create", "job_timeout", {"hours": 1}),
    ("create", "project_id", "No Project"),
    ("create", "gcp_conn_id", 7),
    ("create", "impersonation_chain", {"a": 1}),
    *[
        (kind, "notebook_execution_job", value)
        for kind in ("get", "delete", "sensor")
        for value in (7, "", [1], "j1", {})
    ],
    *[(kind, "location", 7) for kind in ("get", "delete", "sensor", "list")],
    *[("list", name, value) for name in ("filter", "order_by") for value in (7, ["a"])],
    ("list", "location", None),
    ("sensor", "created_after", 7),
]


@pytest.mark.parametrize(("kind", "field", "value"), RENDERED)
def test_what_a_template_comes_to_is_never_retried(google, kind, field, value):
    fields: dict[str, Any] = {field: "{{ value }}"}
    if field == "custom_environment_spec":
        fields["notebook_runtime_template_resource_name"] = None
    if field == "created_after":
        fields |= {"notebook_execution_job": None, "schedule": "77", "location": "us-central1"}
    with pytest.raises(InvalidJob) as caught:
        executed(kind, native=True, variables={"value": value}, **fields)
    assert isinstance(caught.value, AirflowFailException)
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems
    assert google.service.submitted == []


@pytest.mark.parametrize("value", [7, [1], 1.5, True])
def test_a_notebook_that_comes_out_as_something_else_is_never_retried(google, value):
    with pytest.raises(InvalidJob, match="direct_notebook_source: ") as caught:
        executed(
            "create", native=True, variables={"v": value}, gcs_notebook_source=None, direct_notebook_source="{{ v }}"
        )
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize(("task", "values"), KINDS)
def test_bad_input_that_the_api_tells_is_never_retried(google, monkeypatch, task, values):
    """A subclass may raise `InvalidJob` of its own, too."""

    class Task(task):
        def perform(self, context):
            raise InvalidJob("no such thing")

        def _find(self, context):
            raise InvalidJob("no such thing")

    with pytest.raises(InvalidJob, match="no such thing") as caught:
        Task(**values).execute(make_context("r"))
    assert isinstance(caught.value, AirflowFailException)


# --- notebooks that are files ---


CONTENT = notebook(code("1"))


def dag_in(folder: Path, **changes: Any) -> DAG:
    dag = DAG("d", **changes)
    dag.fileloc = str(folder / "dag.py")
    return dag


def mapped(**changes: Any) -> Any:
    values = {name: value for name, value in CREATE.items() if name != "gcs_notebook_source"}
    with DAG("d") as dag:
        CreateNotebookExecutionJobOperator.partial(**{**values, **changes}).expand(parameters=[{"x": 1}])
    return dag


def local(source: Any) -> CreateNotebookExecutionJobOperator:
    return made("create", gcs_notebook_source=None, direct_notebook_source=source, wait_for_completion=False)


@pytest.mark.parametrize("form", [str, Path])
@pytest.mark.parametrize("name", ["missing.ipynb", "missing/n.ipynb", "missing.py", "n.ipynb/x"])
def test_a_missing_notebook_is_told_at_parse_time(tmp_path, form, name):
    (tmp_path / "n.ipynb").write_bytes(CONTENT)
    with pytest.raises(InvalidJob, match=r"direct_notebook_source: .*there is no such file") as caught:
        local(form(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)
    with dag_in(tmp_path), pytest.raises(InvalidJob, match="there is no such file") as caught:
        local(form(name))
    assert str(tmp_path / name) in str(caught.value)


def test_a_folder_or_an_impossible_name_is_told_at_parse_time(tmp_path):
    with pytest.raises(InvalidJob, match="is a folder"):
        local(tmp_path)
    with dag_in(tmp_path), pytest.raises(InvalidJob, match="cannot be read"):
        local("a\0b.ipynb")


def test_a_missing_notebook_of_a_mapped_task_is_told_at_parse_time(tmp_path):
    values = {name: value for name, value in CREATE.items() if name != "gcs_notebook_source"}
    with dag_in(tmp_path):
        partial = CreateNotebookExecutionJobOperator.partial(**values, direct_notebook_source=Path("missing.ipynb"))
    with pytest.raises(InvalidJob, match="there is no such file"):
        partial.expand(parameters=[{"x": 1}])
    (tmp_path / "n.ipynb").write_bytes(CONTENT)
    with dag_in(tmp_path), pytest.raises(InvalidJob, match=r"there is no such file.*value 1 of expand"):
        CreateNotebookExecutionJobOperator.partial(**values).expand(direct_notebook_source=["n.ipynb", "m.ipynb"])


@pytest.mark.parametrize("form", [str, Path])
def test_a_relative_path_is_relative_to_the_dags_file(google, tmp_path, monkeypatch, form):
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "n.ipynb").write_bytes(CONTENT)
    (tmp_path / "n.ipynb").write_bytes(notebook(code("'another one'")))
    monkeypatch.chdir(tmp_path)
    with dag_in(tmp_path / "dags"):
        task = local(form("n.ipynb"))
    context = make_context("r")
    task.render_template_fields(context)
    task.execute(context)
    (submitted,) = google.service.submitted
    assert submitted.direct_notebook_source.content == CONTENT


def test_a_notebook_beside_the_file_that_calls_a_factory_is_found(tmp_path):
    """Airflow gives the DAG the name of that file when all of it was executed."""
    (tmp_path / "factory").mkdir()
    (tmp_path / "n.ipynb").write_bytes(CONTENT)

    def factory() -> CreateNotebookExecutionJobOperator:
        with dag_in(tmp_path / "factory"):
            return local("n.ipynb")

    file = compile("made = factory()", str(tmp_path / "dag.py"), "exec")
    names: dict[str, Any] = {"factory": factory}
    exec(file, names)
    assert names["made"].direct_notebook_source == "n.ipynb"


def test_a_path_without_a_dag_is_looked_for_later(tmp_path):
    assert local("missing.ipynb").direct_notebook_source == "missing.ipynb"


# --- what the serialized DAG carries ---

LARGE = notebook(code("#" * SERIALIZED_NOTEBOOK_MAX_BYTES))


@pytest.mark.parametrize("form", [bytes, bytes.decode, json.loads])
def test_a_large_notebook_in_a_mapped_task_is_warned_about(form):
    with pytest.warns(UserWarning, match=r"serialized DAG.*give the path of") as warned:
        mapped(direct_notebook_source=form(LARGE))
    assert len(warned) == 1


@pytest.mark.parametrize("form", [bytes, bytes.decode, json.loads])
def test_a_large_notebook_that_a_task_is_expanded_with_is_warned_about(form):
    values = {name: value for name, value in CREATE.items() if name != "gcs_notebook_source"}
    partial = CreateNotebookExecutionJobOperator.partial(**values)
    with pytest.warns(UserWarning, match=r"serialized DAG.*give the path of"):
        partial.expand(direct_notebook_source=[CONTENT, form(LARGE)])


@pytest.mark.parametrize("source", [CONTENT, __file__, Path(__file__), "{{ ds }}"])
def test_what_is_small_or_no_notebook_is_not_warned_about(source):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mapped(direct_notebook_source=source)


def test_only_a_mapped_task_carries_its_notebook_into_the_serialized_dag():
    """Which is why the others are not warned about."""
    with DAG("d") as dag:
        local(LARGE)
    assert len(json.dumps(serialized(dag))) < SERIALIZED_NOTEBOOK_MAX_BYTES
    with pytest.warns(UserWarning, match="serialized DAG"):
        large = mapped(direct_notebook_source=LARGE)
    assert len(json.dumps(serialized(large))) > SERIALIZED_NOTEBOOK_MAX_BYTES
