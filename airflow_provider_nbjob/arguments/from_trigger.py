"""Decide if a task starts in the triggerer, without a worker, and gather the arguments that it takes there.

Airflow writes them into the serialized DAG, and into a row of its database for each start of the task. They are one
JSON text there: of a dict with certain keys Airflow would make something else.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any

from airflow_provider_nbjob.airflow_compat import renders_in_triggerer, why_params_on_worker
from airflow_provider_nbjob.arguments.templating import untemplated
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job import checks
from airflow_provider_nbjob.job.spec import NotebookExecutionJobSpec
from airflow_provider_nbjob.lifecycle.final_errors import never_retried
from airflow_provider_nbjob.lifecycle.task_output import TaskOutput

log = logging.getLogger(__name__)

ARGUMENTS = (
    *(field.name for field in fields(NotebookExecutionJobSpec)),
    *("parameters", "secret_parameters", "default_labels"),
    *("location", "project_id", "gcp_conn_id", "impersonation_chain", "api_endpoint"),
    *("poll_interval", "cancel_on_kill", "accept_partial_success", "collect_results", "result_max_bytes"),
    *("fail_on_cell_error", "on_output_error", "max_output_bytes"),
)
# In a task that starts in the triggerer. The trigger must know those below before it renders the others.
MAPPABLE = frozenset(ARGUMENTS) - {"direct_notebook_source", "poll_interval", "cancel_on_kill"}
REFERENCE = "__nbjob_task_output__"  # the key of a dict that stands for another task's result

# Arguments of every operator, and of a DAG, that only a worker, which reads the DAG's file, can do justice to.
ON_WORKER = (
    *("on_execute_callback", "run_as_user", "executor_config", "map_index_template"),
    "render_template_as_native_obj",
)
OF_THE_FILE = (
    *("user_defined_macros", "user_defined_filters", "jinja_environment_kwargs"),
    "render_template_as_native_obj",
)
OPERATOR = "airflow_provider_nbjob.operators.notebook_execution_job.CreateNotebookExecutionJobOperator"
TRIGGER = "airflow_provider_nbjob.triggers.start.NotebookExecutionJobStartTrigger"


class OnWorker(Exception):
    """Why a task starts on a worker."""


class StartsInTriggerer:
    """Mixin of an operator that may start in the triggerer, by two attributes that Airflow writes into the DAG.

    :param start_from_trigger: whether it is to; it starts on a worker all the same where that alone can do what is
        asked for
    """

    def __init__(self, *, start_from_trigger: bool = False, **kwargs: Any) -> None:
        if problems := list(checks.boolean(start_from_trigger)):
            raise never_retried(InvalidJob([f"start_from_trigger: {problem}" for problem in problems]))
        super().__init__(**kwargs)
        self.starts_in_triggerer = start_from_trigger

    @property
    def start_from_trigger(self) -> bool:
        """Return whether the scheduler is to give the task to a triggerer."""
        return self.start_trigger_args is not None

    @property
    def start_trigger_args(self) -> Any:
        """Return the trigger that the task starts in, or None if it starts on a worker."""
        if not getattr(self, "starts_in_triggerer", False):  # Airflow asks before an operator is complete
            return None
        dag = self.dag if self.has_dag() else None  # type: ignore[attr-defined]
        return trigger_args(type(self), {**vars(self), "pushed_keys": self.pushed_keys}, dag)  # type: ignore[attr-defined]


def trigger_args(kind: type, values: Mapping[str, Any], dag: Any) -> Any:
    """Return Airflow's description of the trigger that a task starts in, or None if it starts on a worker.

    :param kind: the class of the operator
    :param values: its arguments, before templates are rendered, and `pushed_keys`; of a mapped task those of `partial`
    :param dag: its DAG; None if it has none yet
    """
    from airflow.triggers.base import StartTriggerArgs

    try:
        arguments = start_arguments(kind, values, dag)
    except OnWorker as reason:
        log.debug("Task %s starts on a worker: %s", values.get("task_id"), reason)
        return None
    return StartTriggerArgs(
        trigger_cls=TRIGGER, trigger_kwargs={"arguments": arguments}, next_method="execute_complete"
    )


def start_arguments(kind: type, values: Mapping[str, Any], dag: Any) -> str:
    """Return the arguments of a task that can start in the triggerer, as JSON; see `trigger_args`.

    :raises OnWorker: if it can not
    """
    for reason in _reasons(kind, values, dag):
        raise OnWorker(reason)
    arguments = {name: values.get(name) for name in ARGUMENTS}
    arguments["direct_notebook_source"] = None
    arguments["pushed_keys"] = values["pushed_keys"] if values.get("do_xcom_push", True) else None
    arguments["mapped_names"] = values.get("mapped_names")
    try:
        if _has_tuple(arguments["parameters"]):
            raise TypeError("tuple of parameters")
        return json.dumps(arguments, default=_as_json)
    except (TypeError, ValueError, RecursionError) as error:
        raise OnWorker(f"an argument that is no JSON: {error}") from None


def _as_json(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, TaskOutput) and not value.operator.is_mapped:
        return {REFERENCE: {"task_id": value.operator.task_id, "key": value.key, "path": value.path}}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} of an argument")


def _has_tuple(value: Any) -> bool:
    """Return whether a value has a tuple in it, of which JSON would make a list."""
    if isinstance(value, Mapping):
        return any(map(_has_tuple, value.values()))
    return isinstance(value, tuple) or (isinstance(value, list) and any(map(_has_tuple, value)))


def is_mappable(values: Any) -> bool:
    """Return whether a serialized DAG keeps the values that a task is mapped over; of some, it makes texts.

    :param values: of `expand`, by argument, or those of `expand_kwargs`
    """
    if isinstance(values, Mapping):
        return all(isinstance(name, str) and is_mappable(value) for name, value in values.items())
    if isinstance(values, list | tuple):
        return all(map(is_mappable, values))
    return values is None or isinstance(values, bool | int | float | str | timedelta)


def _reasons(kind: type, values: Mapping[str, Any], dag: Any) -> Iterator[str]:
    """Yield why a task must start on a worker."""
    if f"{kind.__module__}.{kind.__qualname__}" != OPERATOR:
        yield "it is of a class that the triggerer does not know"
    if not renders_in_triggerer():
        yield "this Airflow renders no templates in the triggerer: 3.3 is the first that does"
    if not (values["deferrable"] and values["wait_for_completion"] and values["durable"]):
        yield "it is not deferrable, does not wait, or is not durable"
    if untemplated(values["direct_notebook_source"]) is not None:
        yield "direct_notebook_source is beside the DAG, or in it"
    if values["log_output"]:
        yield "log_output is shown by a worker"
    for name in ("pre_execute", "_pre_execute_hook", "post_execute", "_post_execute_hook", *ON_WORKER):
        if values.get(name):
            yield f"{name} is for a worker"
    if reason := why_params_on_worker(getattr(dag, "params", None), values.get("params")):
        yield reason
    for name in OF_THE_FILE:
        if getattr(dag, name, None):
            yield f"the DAG has {name}, which only its file defines"
