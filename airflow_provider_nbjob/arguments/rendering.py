"""Render the arguments of a task in the triggerer, which knows the DAG by its serialized form only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_nbjob.airflow_compat import UNANSWERED_IN_TRIGGERER, UNANSWERED_OF_TASK
from airflow_provider_nbjob.arguments.from_trigger import REFERENCE, OnWorker
from airflow_provider_nbjob.lifecycle.task_output import TaskOutput


def mapped_arguments(ti: Any, names: Sequence[str] | None) -> dict[str, Any]:
    """Return the arguments by which a mapped task instance differs from the others; none if it is not mapped.

    :param ti: the task instance, with its serialized task
    :param names: of the arguments of `expand`, in its order: PostgreSQL and MySQL keep JSON objects in another one
    :raises OnWorker: if the task is mapped over what other tasks return
    """
    if ti.map_index is None or ti.map_index < 0:
        return {}
    values = ti.task.expand_input.value
    if isinstance(values, list | tuple):  # `expand_kwargs`
        picked = values[ti.map_index]
    elif isinstance(values, Mapping) and all(isinstance(values.get(name), list | tuple) for name in names or (None,)):
        picked, index = {}, ti.map_index
        for name in reversed(names or ()):  # the last one varies fastest
            index, place = divmod(index, len(values[name]))
            picked[name] = values[name][place]
    else:
        picked = None
    if not isinstance(picked, Mapping):
        raise OnWorker("it is mapped over what other tasks return")
    return dict(picked)


def context_in_triggerer(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's context whose parts raise `OnWorker` if Airflow does not answer them in the triggerer.

    Without them a template such as ``{{ prev_start_date_success | default(ds) }}`` would come out as something else.
    """
    ti = TaskInstanceInTriggerer(context["ti"])
    unanswered = {name: Unanswered(name) for name in UNANSWERED_IN_TRIGGERER.intersection(context)}
    return {**context, **unanswered, "ti": ti, "task_instance": ti}


class Unanswered:
    """A part of a task's context that raises `OnWorker` if a template uses it in any way.

    :param name: of the part
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: Any) -> Any:
        raise OnWorker(f"a template uses {self._name}, which Airflow does not answer in the triggerer")

    __getattr__ = __getitem__ = __call__ = __iter__ = __len__ = __contains__ = _refuse
    __bool__ = __str__ = __format__ = __hash__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mod__ = _refuse


class TaskInstanceInTriggerer:
    """A task instance whose methods raise `OnWorker` rather than wait for an answer that never comes.

    :param ti: the task instance, with its serialized task
    """

    def __init__(self, ti: Any) -> None:
        self._ti = ti

    def __getattr__(self, name: str) -> Any:
        if name in UNANSWERED_OF_TASK:
            raise OnWorker(f"a template uses ti.{name}, which Airflow does not answer in the triggerer")
        return getattr(self._ti, name)

    def xcom_pull(self, task_ids: Any = None, *arguments: Any, map_indexes: Any = ..., **options: Any) -> Any:
        """Return XComs one by one, as the triggerer cannot ask for all those of a task.

        :raises OnWorker: if they may be those of a mapped task
        """
        if map_indexes is None or isinstance(map_indexes, int | Iterable):
            return self._ti.xcom_pull(task_ids, *arguments, map_indexes=map_indexes, **options)
        named = [task_ids] if isinstance(task_ids, str) else list(task_ids or ())
        if arguments or options.get("dag_id") or not named or not all(map(self._is_single, named)):
            raise OnWorker("a template pulls the XComs of a mapped task, of this one, or of another DAG")
        return self._ti.xcom_pull(task_ids, map_indexes=None, **options)

    def _is_single(self, task_id: str) -> bool:
        dag = self._ti.task.dag
        if not dag.has_task(task_id):
            return False
        task = dag.get_task(task_id)
        return not task.is_mapped and task.get_closest_mapped_task_group() is None


def rendered(value: Any, context: Mapping[str, Any], environment: Any) -> Any:
    """Return a value with the templates and references in it replaced, however deep.

    :param value: a JSON value, see `start_arguments`
    :param context: the task's
    :param environment: of Jinja
    :raises Exception: if a template or a reference cannot be resolved
    """
    if isinstance(value, str):
        from jinja2 import StrictUndefined  # what the triggerer does not know must not come out as nothing

        return environment.overlay(undefined=StrictUndefined).from_string(value).render(context)
    if isinstance(value, list | tuple):
        return type(value)(rendered(item, context, environment) for item in value)
    if isinstance(value, Mapping):
        if set(value) == {REFERENCE}:
            return _resolved(value[REFERENCE], context)
        return {name: rendered(item, context, environment) for name, item in value.items()}
    return value


def _resolved(reference: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
    operator = context["ti"].task.dag.get_task(reference["task_id"])
    return TaskOutput(operator, reference["key"], path=tuple(reference["path"])).resolve(context)
