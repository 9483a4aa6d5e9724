"""Which tasks start in the triggerer, what of them stands in the DAG, and what becomes of that when it is rendered."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
from airflow.sdk import DAG, Param, XComArg, task

from airflow_provider_nbjob.arguments import from_trigger
from airflow_provider_nbjob.arguments.from_trigger import ARGUMENTS, REFERENCE, OnWorker
from airflow_provider_nbjob.arguments.rendering import context_in_triggerer, mapped_arguments, rendered
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from tests.support.airflow_versions import STARTS_IN_TRIGGERER
from tests.support.tasks import REQUIRED

pytestmark = pytest.mark.skipif(not STARTS_IN_TRIGGERER, reason="Airflow 3.3 is the first whose tasks can start there")
STARTS = {**REQUIRED, "deferrable": True, "start_from_trigger": True}


class Derived(CreateNotebookExecutionJobOperator):
    """An operator of a user's, which a triggerer may not have."""


def made(**changes: Any) -> CreateNotebookExecutionJobOperator:
    return CreateNotebookExecutionJobOperator(**{**STARTS, **changes})


def arguments_of(operator: Any) -> dict[str, Any]:
    return json.loads(operator.start_trigger_args.trigger_kwargs["arguments"])


def test_it_starts_there_if_it_is_asked_to():
    assert made().start_from_trigger
    assert not made(start_from_trigger=False).start_from_trigger
    assert CreateNotebookExecutionJobOperator(**REQUIRED, deferrable=True).start_trigger_args is None


def test_its_arguments_stand_in_the_dag():
    labels = {"team": "{{ ds }}"}
    found = arguments_of(made(labels=labels, job_timeout=timedelta(minutes=2), poll_interval=timedelta(seconds=3)))
    assert set(found) == {*ARGUMENTS, "pushed_keys", "mapped_names"}
    assert (found["labels"], found["job_timeout"], found["poll_interval"]) == (labels, 120.0, 3.0)
    assert found["gcs_notebook_source"] == REQUIRED["gcs_notebook_source"]
    assert found["pushed_keys"] == ["output_notebook_uri", "job_state", "results"]
    assert arguments_of(made(do_xcom_push=False))["pushed_keys"] is None


def hook(_: Any) -> None:
    """Stand for a function of the DAG's file."""


@pytest.mark.parametrize(
    "changes",
    [
        {"deferrable": False},
        {"wait_for_completion": False},
        {"durable": False},
        {"log_output": True},
        {"gcs_notebook_source": None, "direct_notebook_source": {"nbformat": 4, "cells": [], "metadata": {}}},
        {"on_execute_callback": hook},
        {"pre_execute": hook},
        {"post_execute": hook},
        {"run_as_user": "somebody"},
        {"executor_config": {"pod_override": 1}},
        {"render_template_as_native_obj": True},
        {"params": {"n": Param(1, type="integer")}},
        {"params": {"n": Param()}},
        {"parameters": {"shape": (224, 224)}},
        {"parameters": {"x": [{"shape": (224, 224)}]}},
        {"parameters": {"x": float}},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_what_a_worker_alone_can_do_starts_on_one(changes):
    arguments = {name: value for name, value in {**STARTS, **changes}.items() if value is not None}
    if changes.get("parameters", {}).get("x") is float:
        operator = made()
        operator.parameters = changes["parameters"]
    else:
        operator = CreateNotebookExecutionJobOperator(**arguments)
    assert not operator.start_from_trigger


@pytest.mark.parametrize(
    "changes",
    [
        {"user_defined_macros": {"x": 1}},
        {"user_defined_filters": {"x": str}},
        {"jinja_environment_kwargs": {"trim_blocks": True}},
        {"render_template_as_native_obj": True},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_templates_that_only_the_dags_file_explains_are_rendered_on_a_worker(changes):
    with DAG("d", schedule=None, **changes):
        assert not made().start_from_trigger


def test_a_dag_whose_param_has_no_value_starts_its_tasks_on_a_worker():
    """It would end the triggerer, with all that waits there."""
    with DAG("d", schedule=None, params={"n": Param(type="integer")}):
        assert not made(task_id="plain").start_from_trigger
        assert not mapped(parameters=[{"n": 1}]).start_from_trigger


def test_a_dag_whose_params_have_values_starts_its_tasks_in_the_triggerer():
    with DAG("d", schedule=None, params={"n": Param(1, type="integer"), "none": Param(None, type=["null", "string"])}):
        assert made(task_id="plain", params={"own": 1}).start_from_trigger
        assert mapped(parameters=[{"n": 1}]).start_from_trigger


def test_a_derived_operator_starts_on_a_worker():
    assert not Derived(**STARTS).start_from_trigger


def test_before_airflow_3_3_it_starts_on_a_worker(monkeypatch):
    monkeypatch.setattr(from_trigger, "renders_in_triggerer", lambda: False)
    assert not made().start_from_trigger


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_anything_but_true_and_false_is_refused(value):
    with pytest.raises(InvalidJob, match="start_from_trigger: "):
        made(start_from_trigger=value)


# --- mapped tasks ---


def mapped(*given: Any, **values: Any) -> Any:
    partial = CreateNotebookExecutionJobOperator.partial(**STARTS)
    return partial.expand_kwargs(*given) if given else partial.expand(**values)


@pytest.mark.parametrize("task", [lambda: mapped(parameters=[{"n": 1}]), lambda: mapped([{"display_name": "x"}])])
def test_a_mapped_task_starts_there_too(task):
    found = task()
    assert found.start_from_trigger
    assert set(arguments_of(found)) == {*ARGUMENTS, "pushed_keys", "mapped_names"}
    assert arguments_of(found)["gcp_conn_id"] == "google_cloud_default"


@pytest.mark.parametrize("name", ["log_output", "direct_notebook_source", "deferrable"])
def test_a_task_that_is_mapped_over_something_else_starts_on_a_worker(name):
    given = {key: value for key, value in STARTS.items() if key not in (name, "gcs_notebook_source")}
    values = {"log_output": [True], "deferrable": [True]}
    source = {} if name == "direct_notebook_source" else {"gcs_notebook_source": "gs://bucket/n.ipynb"}
    partial = CreateNotebookExecutionJobOperator.partial(**given, **source)
    assert not partial.expand(**{name: values.get(name, ['{"cells": []}'])}).start_from_trigger


def test_a_mapped_task_that_is_not_asked_to_does_not():
    for changes in ({"start_from_trigger": False}, {"deferrable": False}):
        partial = CreateNotebookExecutionJobOperator.partial(**{**STARTS, **changes})
        found = partial.expand(parameters=[{"n": 1}])
        assert (found.start_from_trigger, found.start_trigger_args) == (False, None)


@pytest.mark.parametrize(
    "values",
    [
        {"parameters": [{"day": date(2026, 11, 30)}]},
        {"parameters": [{"at": datetime(2026, 11, 30)}]},
        {"cancel_on_kill": [True, False]},
        {"poll_interval": [1, 2]},
    ],
    ids=lambda values: str(values),
)
def test_values_that_the_dag_or_the_trigger_does_not_keep_are_mapped_on_a_worker(values):
    assert not mapped(**values).start_from_trigger
    assert not mapped([{name: elements[0]} for name, elements in values.items()]).start_from_trigger


def test_an_instance_has_the_arguments_that_it_has_on_a_worker():
    """PostgreSQL and MySQL put the shorter of an object's keys first."""
    from airflow.serialization.serialized_objects import DagSerialization  # Airflow 3.1 has none

    with DAG("d", schedule=None) as dag:
        task = mapped(parameters=[{"n": (1, 2)}, {"n": 3}], labels=[{"a": "x"}, {"a": "y"}])
    data = json.loads(json.dumps(DagSerialization.to_dict(dag), sort_keys=True))
    serialized = DagSerialization.from_dict(data).get_task("t")
    names = arguments_of(task)["mapped_names"]
    for index in range(4):
        ti = SimpleNamespace(map_index=index, task=serialized)
        on_worker, _ = task.expand_input.resolve({"ti": ti})
        assert render(mapped_arguments(ti, names)) == on_worker


def instance(value: Any, index: int) -> Any:
    return SimpleNamespace(map_index=index, task=SimpleNamespace(expand_input=SimpleNamespace(value=value)))


def test_each_instance_has_its_own_arguments():
    lists = {"a": [1, 2], "b": ["x", "y", "z"]}
    found = [mapped_arguments(instance(lists, index), ["a", "b"]) for index in range(6)]
    assert found == [{"a": a, "b": b} for a in (1, 2) for b in "xyz"]
    dicts = [{"a": 1}, {"a": 2, "b": "y"}]
    assert [mapped_arguments(instance(dicts, index), None) for index in (0, 1)] == dicts
    assert mapped_arguments(instance(None, -1), None) == {}


@pytest.mark.parametrize("value", [{"a": object()}, object(), {"a": {"k": 1}}, [object()]])
def test_what_other_tasks_return_is_mapped_over_on_a_worker(value):
    with pytest.raises(OnWorker):
        mapped_arguments(instance(value, 0), ["a"])


# --- rendering ---


def render(value: Any, **context: Any) -> Any:
    return rendered(value, context, jinja2.Environment())


def test_templates_are_rendered_however_deep():
    value = {"a": ["{{ x }}", {"b": "<{{ x }}>"}], "c": 7, "d": None, "e": True, "{{ x }}": "key"}
    assert render(value, x="y") == {"a": ["y", {"b": "<y>"}], "c": 7, "d": None, "e": True, "{{ x }}": "key"}


def test_a_name_that_the_triggerer_does_not_know_is_no_empty_text():
    with pytest.raises(jinja2.UndefinedError):
        render("{{ macro_of_the_file }}")


def test_a_reference_to_a_result_stands_in_the_dag_and_is_resolved():
    with DAG("d", schedule=None) as dag:
        train = CreateNotebookExecutionJobOperator(**{**STARTS, "task_id": "train"})
        score = made(task_id="score", parameters={"auc": train.output["results"]["auc"]}, labels=None)
    found = arguments_of(score)["parameters"]
    assert found == {"auc": {REFERENCE: {"task_id": "train", "key": "results", "path": ["auc"]}}}
    ti = SimpleNamespace(task=SimpleNamespace(dag=dag), xcom_pull=lambda **_: {"results": {"auc": 0.5}})
    assert render(found, ti=ti) == {"auc": 0.5}


NAMES = ("prev_start_date_success", "prev_data_interval_end_success", "inlet_events", "task_state_store")


@pytest.mark.parametrize("name", NAMES)
def test_what_airflow_does_not_answer_in_the_triggerer_is_not_asked(name):
    """It would be waited for without end."""
    context = context_in_triggerer({"ti": SimpleNamespace(), name: "an answer", "ds": "2026-11-30"})
    assert render("{{ ds }}", **context) == "2026-11-30"
    uses = ["NAME", "NAME | default(ds)", "NAME | default(ds, true)", "NAME or ds", "NAME.year", "NAME[0]", "NAME - 1"]
    for use in [one.replace("NAME", name) for one in (*uses, "NAME == ds", "ds > NAME", "NAME | list", "ds ~ NAME")]:
        with pytest.raises(OnWorker, match=name):
            render(f"{{{{ {use} }}}}", **context)


def pulling(**pulled: Any) -> dict[str, Any]:
    """Return the context of a task beside a task `plain`, a mapped one, and one in a mapped task group."""
    tasks = {
        name: SimpleNamespace(is_mapped=name == "mapped", get_closest_mapped_task_group=lambda: None)
        for name in ("plain", "mapped")
    }
    tasks["grouped"] = SimpleNamespace(is_mapped=False, get_closest_mapped_task_group=lambda: "group")
    dag = SimpleNamespace(has_task=tasks.__contains__, get_task=tasks.__getitem__)

    def pull(task_ids: Any, *, map_indexes: Any, key: str = "return_value") -> Any:
        assert map_indexes in (None, 3)
        return [pulled[one] for one in task_ids] if isinstance(task_ids, list) else pulled.get(task_ids)

    ti = SimpleNamespace(task=SimpleNamespace(dag=dag), try_number=1, get_previous_dagrun=None, xcom_pull=pull)
    return context_in_triggerer({"ti": ti, "task_instance": ti})


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ ti.xcom_pull('plain') }}", "1"),
        ("{{ task_instance.xcom_pull(task_ids='plain', key='return_value') }}", "1"),
        ("{{ ti.xcom_pull(['plain', 'plain']) }}", "[1, 1]"),
        ("{{ ti.xcom_pull('mapped', map_indexes=3) }}", "2"),
        ("{{ ti.xcom_pull('mapped', map_indexes=none) }}", "2"),
        ("{{ ti.try_number }}", "1"),
    ],
)
def test_xcoms_are_pulled_one_by_one(template, expected):
    assert render(template, **pulling(plain=1, mapped=2)) == expected


@pytest.mark.parametrize(
    "template",
    [
        *("{{ ti.xcom_pull('mapped') }}", "{{ ti.xcom_pull('grouped') }}", "{{ ti.xcom_pull(['plain', 'mapped']) }}"),
        *("{{ ti.xcom_pull('nowhere') }}", "{{ ti.xcom_pull() }}", "{{ ti.xcom_pull('plain', dag_id='other') }}"),
        *("{{ ti.xcom_pull('plain', 'other') }}", "{{ ti.get_previous_dagrun() }}"),
    ],
)
def test_xcoms_that_the_triggerer_cannot_pull_are_pulled_by_a_worker(template):
    with pytest.raises(OnWorker):
        render(template, **pulling(plain=1))


def test_a_reference_of_another_kind_is_resolved_on_a_worker():
    @task
    def numbers():
        return [1]

    with DAG("d", schedule=None):
        value = numbers()
        assert isinstance(value, XComArg)
        assert not made(parameters={"n": value}).start_from_trigger
