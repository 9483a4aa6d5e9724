"""What the operators and the sensor share: the way to the API, and the check of their arguments."""

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
from airflow_provider_nbjob.notebook import ON_OUTPUT_ERROR
from airflow_provider_nbjob.notebook.unknown import UNKNOWN

PROBLEMS_MAX = 20  # of all instances of a mapped task that are told

RULES: dict[str, Rule] = {
    "location": optional(checks.matches(re.compile(names.LOCATION), "us-central1")),
    "project_id": optional(checks.project),
    "gcp_conn_id": checks.text,
    "impersonation_chain": optional(checks.impersonation_chain),
    "api_endpoint": optional(checks.text),
}


# Of those that wait for the end of a job: how they wait, and what they make of it.
END_RULES: dict[str, Rule] = {
    **dict.fromkeys(("deferrable", "accept_partial_success", "log_output", "fail_on_cell_error"), checks.boolean),
    "collect_results": optional(checks.boolean),
    "on_output_error": checks.choice(ON_OUTPUT_ERROR),
    "result_max_bytes": checks.whole_number(0, "bytes"),
    "max_output_bytes": checks.whole_number(1, "bytes"),
}


class CheckedTask(HasConnection):
    """A task that checks each argument as early as it is known: when its DAG is parsed, or when it runs.

    `rules` has one for each argument, under the name of its attribute. All that is wrong is raised in one `InvalidJob`,
    which Airflow does not retry: a mapped task is made on the worker.
    """

    rules: ClassVar[Mapping[str, Rule]] = RULES
    template_fields: Sequence[str] = ()

    @classmethod
    def argument_names(cls) -> set[str]:
        """Return the names of the arguments that `problems_in` judges.

        `dag` may be one of them, for what is relative to its file; it is None if it is not known yet.
        """
        return set(cls.rules)

    @classmethod
    def problems_in(cls, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with arguments.

        :param values: all of `argument_names`; None if it is not given, `UNKNOWN` if only the run knows it
        """
        return problems_of(values, cls.rules)

    def check_known(self) -> None:
        """Refuse what can be known to be wrong before a template is rendered.

        :raises InvalidJob: never retried
        """
        self._refuse({name: self._known(name, self._argument(name)) for name in self.argument_names()})

    def check_rendered(self) -> None:
        """Refuse what is wrong once all templates are rendered.

        :raises InvalidJob: never retried
        """
        self._refuse({name: self._argument(name) for name in self.argument_names()})

    def _argument(self, name: str) -> Any:
        return getattr(self, name) if name != "dag" or self.has_dag() else None  # type: ignore[attr-defined]

    # --- mapped tasks ---

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Check the arguments that are given, then return what Airflow's `partial` does."""
        from airflow_provider_nbjob.arguments.mapping import CheckedPartial

        cls._refuse({**dict.fromkeys(cls.argument_names(), UNKNOWN), **cls._known_of(kwargs)})
        cls.warn_about(kwargs)
        return CheckedPartial.of(super().partial(**kwargs), kwargs.get("default_args"))  # type: ignore[misc]

    @classmethod
    def check_expanded(cls, given: Mapping[str, Any], mapped: Mapping[str, Any]) -> None:
        """Refuse what is wrong with a mapped task.

        :param given: to all instances
        :param mapped: values of one argument each; those that are no list are known only when the task runs
        :raises InvalidJob: never retried
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
        """Refuse what is wrong with a mapped task; see `check_expanded`.

        :param mapped: the arguments of one instance each
        """
        problems = []
        for number, kwargs in enumerate(mapped):
            values = {**cls._not_given(), **cls._known_of({**given, **kwargs})}
            problems += [f"{problem} (item {number} of expand_kwargs)" for problem in cls.problems_in(values)]
        _raise(_shortened(problems))

    @classmethod
    def warn_about(cls, arguments: Mapping[str, Any]) -> None:
        """Warn about arguments that are valid and unwise."""

    # --- inside ---

    @classmethod
    def _known_of(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        return {name: cls._known(name, given[name]) for name in cls.argument_names() if name in given}

    @classmethod
    def _not_given(cls) -> dict[str, Any]:
        """Return None for each argument; of those with a default that has a rule, the default is right."""
        return {n: UNKNOWN if n in cls.rules and n != "location" else None for n in cls.argument_names()}

    @classmethod
    def _known(cls, name: str, value: Any) -> Any:
        """Return a value with what Airflow renders of it replaced by `UNKNOWN`."""
        return known(value) if name in cls.template_fields else value

    @classmethod
    def _refuse(cls, values: Mapping[str, Any]) -> None:
        _raise(cls.problems_in(values))


def problems_of_job_name(values: Mapping[str, Any], field: str = "notebook_execution_job") -> list[str]:
    """Return what is wrong with the name of a job, and with the location that a bare id needs.

    :param values: arguments of a task, with `field` and `location`
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
