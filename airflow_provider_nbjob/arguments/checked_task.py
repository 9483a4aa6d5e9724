"""The base class of operators and of the sensor: their connection, and the check of their arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from airflow_provider_nbjob import names
from airflow_provider_nbjob.arguments.templates import known
from airflow_provider_nbjob.connection import HasConnection
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job import JOB_ID_FORM, JobName, checks
from airflow_provider_nbjob.job.checks import Rule, optional, problems_of
from airflow_provider_nbjob.lifecycle.final_errors import never_retried
from airflow_provider_nbjob.lifecycle.task_output import valid_xcom_keys
from airflow_provider_nbjob.notebook import ON_OUTPUT_ERROR
from airflow_provider_nbjob.notebook.unknown import UNKNOWN

PROBLEMS_MAX = 20  # reported problems of all instances of a mapped task

RULES: dict[str, Rule] = {
    "location": optional(checks.matches(re.compile(names.LOCATION), "us-central1")),
    "project_id": optional(checks.project),
    "gcp_conn_id": checks.text,
    "impersonation_chain": optional(checks.impersonation_chain),
    "api_endpoint": optional(checks.text),
}


# Arguments of tasks that wait for the end of a job.
END_RULES: dict[str, Rule] = {
    **dict.fromkeys(("deferrable", "accept_partial_success", "log_output", "fail_on_cell_error"), checks.boolean),
    "collect_results": optional(checks.boolean),
    "on_output_error": checks.choice(ON_OUTPUT_ERROR),
    "result_max_bytes": checks.whole_number(0, "bytes"),
    "max_output_bytes": checks.whole_number(1, "bytes"),
    "xcom_keys": valid_xcom_keys,
}


class CheckedTask(HasConnection):
    """A task that checks each argument as early as it is known: when its DAG is parsed, or when the task runs.

    `rules` holds one rule for each argument, by the name of its attribute. One `InvalidJob` reports all problems.
    Airflow does not retry it, because Airflow creates the operator of a mapped task on the worker.
    """

    rules: ClassVar[Mapping[str, Rule]] = RULES
    template_fields: Sequence[str] = ()

    @classmethod
    def argument_names(cls) -> set[str]:
        """Return the names of the arguments that `problems_in` checks.

        One of them may be `dag`, for paths that are relative to its file. Its value is None if it is not known yet.
        """
        return set(cls.rules)

    @classmethod
    def problems_in(cls, values: Mapping[str, Any]) -> list[str]:
        """Check arguments, and return one message for each problem.

        :param values: values of all `argument_names`: None if an argument is not given, `UNKNOWN` if it is known only
            when the task runs
        """
        return problems_of(values, cls.rules)

    def check_known(self) -> None:
        """Check the arguments before templates are rendered, as far as they are known.

        :raises InvalidJob: with one message for each problem; Airflow does not retry it
        """
        self._refuse({name: self._known(name, self._argument(name)) for name in self.argument_names()})

    def check_rendered(self) -> None:
        """Check the arguments after all templates are rendered.

        :raises InvalidJob: with one message for each problem; Airflow does not retry it
        """
        self._refuse({name: self._argument(name) for name in self.argument_names()})

    def _argument(self, name: str) -> Any:
        return getattr(self, name) if name != "dag" or self.has_dag() else None  # type: ignore[attr-defined]

    # --- mapped tasks ---

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Check the given arguments, and return Airflow's partial operator as a `CheckedPartial`.

        :raises InvalidJob: with one message for each problem
        """
        from airflow_provider_nbjob.arguments.mapping import CheckedPartial

        cls._refuse({**dict.fromkeys(cls.argument_names(), UNKNOWN), **cls._known_of(kwargs)})
        cls.warn_about(kwargs)
        return CheckedPartial.of(super().partial(**kwargs), kwargs.get("default_args"))  # type: ignore[misc]

    @classmethod
    def check_expanded(cls, given: Mapping[str, Any], mapped: Mapping[str, Any]) -> None:
        """Check the arguments of a mapped task.

        :param given: arguments of all instances
        :param mapped: lists of values by argument, one value for each instance; a value that is not a list is known
            only when the task runs
        :raises InvalidJob: with one message for each problem; Airflow does not retry it
        """
        values = {**cls._not_given(), **cls._known_of(given), **dict.fromkeys(mapped, UNKNOWN)}
        problems = cls.problems_in(values)
        unknown = {name: UNKNOWN if name != "dag" else values[name] for name in values}
        for name, elements in mapped.items():
            if name not in cls.argument_names() or not isinstance(elements, list | tuple):
                continue
            for element in elements:
                cls.warn_about({name: element})
            for number, element in enumerate(elements):
                found = cls.problems_in({**unknown, name: cls._known(name, element)})
                problems += [f"{problem} (value {number} of expand)" for problem in found]
        _raise(_shortened(problems))

    @classmethod
    def check_expanded_kwargs(cls, given: Mapping[str, Any], mapped: Iterable[Mapping[str, Any]]) -> None:
        """Check the arguments of a task that is mapped by `expand_kwargs`; see `check_expanded`.

        :param given: arguments of all instances
        :param mapped: further arguments, one mapping for each instance
        :raises InvalidJob: with one message for each problem; Airflow does not retry it
        """
        problems = []
        for number, kwargs in enumerate(mapped):
            values = {**cls._not_given(), **cls._known_of({**given, **kwargs})}
            problems += [f"{problem} (item {number} of expand_kwargs)" for problem in cls.problems_in(values)]
        _raise(_shortened(problems))

    @classmethod
    def warn_about(cls, arguments: Mapping[str, Any]) -> None:
        """Warn about arguments that are valid but harmful; a subclass may override this."""

    # --- inside ---

    @classmethod
    def _known_of(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        return {name: cls._known(name, given[name]) for name in cls.argument_names() if name in given}

    @classmethod
    def _not_given(cls) -> dict[str, Any]:
        """Return None for each argument that is required or has no rule, and `UNKNOWN` for one with a valid default."""
        return {n: UNKNOWN if n in cls.rules and n != "location" else None for n in cls.argument_names()}

    @classmethod
    def _known(cls, name: str, value: Any) -> Any:
        """Return a value with all templates in it replaced by `UNKNOWN`, if the argument is a template field."""
        return known(value) if name in cls.template_fields else value

    @classmethod
    def _refuse(cls, values: Mapping[str, Any]) -> None:
        _raise(cls.problems_in(values))


def problems_of_job_name(values: Mapping[str, Any], field: str = "notebook_execution_job") -> list[str]:
    """Check the name of a job, and the location, which a bare job id requires.

    :param values: arguments of a task, which include `field` and `location`
    :param field: name of the argument that names the job
    :return: one message for each problem
    """
    name, location = values[field], values["location"]
    if name is UNKNOWN:
        return []
    if not isinstance(name, str) or not name:
        return list(problems_of({field: name}, {field: checks.text}))
    problems = []
    try:
        if "/" in name:
            JobName.parse(name)
            return []
        names.check(field, name, names.JOB_ID, f"{JOB_ID_FORM}, or of a resource name")
    except InvalidJob as error:
        problems = [problem if problem.startswith(field) else f"{field}: {problem}" for problem in error.problems]
    if "/" not in name and checks.is_missing(location):
        problems.append(f"location: required with the bare job id {names.shown(name)}")
    return problems


def _raise(problems: Sequence[str]) -> None:
    if problems:
        raise never_retried(InvalidJob(problems))


def _shortened(problems: list[str]) -> list[str]:
    more = len(problems) - PROBLEMS_MAX
    return problems if more <= 0 else [*problems[:PROBLEMS_MAX], f"and {more} more like these"]
