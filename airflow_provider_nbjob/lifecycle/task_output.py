"""Pass results to other tasks: by ``train.output["results"]["auc"]``, and by the XCom keys that a task is asked for.

An XCom reference of Airflow (3.1 to 3.3) has only one key: ``output["results"]["auc"]`` would pull the key ``auc``
without regard to the keys before it, and would be None if there is no such key.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import attrs
from airflow.sdk.definitions.xcom_arg import PlainXComArg

from airflow_provider_nbjob.airflow_compat import delete_xcom_of_task, xcom_of_task
from airflow_provider_nbjob.exceptions import InvalidJob, NotebookExecutionJobError
from airflow_provider_nbjob.job import JobResult
from airflow_provider_nbjob.job.record import JOB_XCOM_KEY
from airflow_provider_nbjob.links.notebook_execution_job import LINKS
from airflow_provider_nbjob.names import shown

RESULTS = "results"
RETURNED = "return_value"  # Airflow's key of a task's return value
KEYS = ("output_notebook_uri", "job_state", RESULTS)  # by default; each key costs Airflow's API server a request
KEYS_MAX = 100  # that a task may be asked for
NAMES_SHOWN = 20  # names of results in an error or a log message

_PARTS = frozenset(part.name for part in fields(JobResult))
# Keys that have another meaning for this provider or for Airflow.
_RESERVED = frozenset({RETURNED, JOB_XCOM_KEY, *(link.xcom_key for link in LINKS), "skipmixin_key", "trigger_run_id"})
# A key becomes part of a URL path of Airflow's API.
_KEY = re.compile(r"[A-Za-z][-_.A-Za-z0-9]{0,199}")


@attrs.define(repr=False)
class TaskOutput(PlainXComArg):
    """A reference to a task's return value, like `output` of Airflow's operators.

    Below ``["results"]`` it accepts any number of names and indices: ``output["results"]["scores"][0]``.

    :param path: names and indices to look up below `key`
    """

    path: tuple[str | int, ...] = ()

    def __getitem__(self, item: Any) -> TaskOutput:
        """Return a reference to a part of the value.

        :param item: a key of XCom; below ``["results"]``, a name or an index
        :raises InvalidJob: if the part is a result, and the task's arguments exclude results
        :raises ValueError: if the part is a result, and `item` is neither a name nor an index
        """
        if self.key != RESULTS:
            super().__getitem__(item)  # refuses an item that is not a key
            return attrs.evolve(self, key=item)
        if not isinstance(item, str | int) or isinstance(item, bool):
            raise ValueError(f"{self!r} is looked up by names and indices, not by {type(item).__name__}")
        for name in ("collect_results", "do_xcom_push", "wait_for_completion"):
            if getattr(self.operator, name, None) is False:
                raise InvalidJob(f"{name}: False, but {self._shown(item)} of task {self.operator.task_id!r} is used")
        return attrs.evolve(self, path=(*self.path, item))

    def __repr__(self) -> str:
        return f"{super().__repr__()}{_subscripts(self.path)}"

    def __str__(self) -> str:
        """Return the reference as a Jinja template, for f-strings."""
        if self._is_pushed:
            return PlainXComArg.__str__(self)
        template = str(PlainXComArg(self.operator)).removesuffix(" }}")
        return f"{template}{_subscripts((self.key, *self.path))} }}}}"

    def resolve(self, context: Mapping[str, Any]) -> Any:
        """Return the value; None if the task did not run, like any reference of Airflow.

        :raises NotebookExecutionJobError: if the task returned no value of this name
        """
        if self._is_pushed:
            return PlainXComArg(self.operator, self.key).resolve(context)
        returned = PlainXComArg(self.operator).resolve(context)
        if isinstance(returned, Sequence) and not isinstance(returned, str):  # the task is in a mapped task group
            return [self._picked(one) for one in returned]
        return self._picked(returned)

    @property
    def _is_pushed(self) -> bool:
        """Return whether XCom has the value under a key of its own."""
        return not self.path and (self.key in getattr(self.operator, "pushed_keys", ()) or self.key not in _PARTS)

    def _picked(self, returned: Any) -> Any:
        if returned is None:
            return None
        value = returned
        for step in (self.key, *self.path):
            is_there = (
                step in value
                if isinstance(value, Mapping)
                else isinstance(step, int) and isinstance(value, list) and -len(value) <= step < len(value)
            )
            if not is_there:
                raise NotebookExecutionJobError(self._missing(returned))
            value = value[step]
        return value

    def _missing(self, returned: Any) -> str:
        results, why = returned.get(RESULTS) or {}, returned.get("output_error")
        names = ", ".join(map(repr, list(results)[:NAMES_SHOWN])) or "no results"
        more = f" and {len(results) - NAMES_SHOWN} more" if len(results) > NAMES_SHOWN else ""
        reason = f" Its executed notebook was not read: {why}" if why else ""
        return f"Task {self.operator.task_id!r} returned no {self._shown()}. It returned {names}{more}.{reason}"

    def _shown(self, *more: str | int) -> str:
        return f"{self.key}{_subscripts((*self.path, *more))}"


def _subscripts(path: Sequence[str | int]) -> str:
    return "".join(f"[{step!r}]" for step in path)


class HasResults:
    """Mixin of an operator that returns a `JobResult`: its `output` looks up names below ``["results"]``.

    :param multiple_outputs: push `KEYS` under XCom keys of their own too
    :param xcom_keys: names of further parts of the result, or of `results`, to push under keys of their own
    """

    def __init__(self, *, multiple_outputs: bool = True, xcom_keys: Collection[str] = (), **kwargs: Any) -> None:
        # By Airflow's `multiple_outputs` it would push every part, each of which costs its API server a request.
        super().__init__(multiple_outputs=False, **kwargs)  # type: ignore[call-arg]  # the other base's
        self.xcom_keys = xcom_keys
        self._has_keys = multiple_outputs

    @property
    def output(self) -> TaskOutput:
        """Return a reference to the task's return value."""
        return TaskOutput(self)  # type: ignore[arg-type]  # the other base of its class is an operator

    @property
    def pushed_keys(self) -> tuple[str, ...]:
        """Return the names that have an XCom key of their own."""
        return keys_of(self._has_keys, self.xcom_keys)

    def push_keys(self, ti: Any, result: JobResult, log: Any) -> dict[str, Any]:
        """Push what has an XCom key of its own, and return the task's return value.

        :param ti: the task instance
        :param log: takes a warning of a name in `xcom_keys` that is neither a part nor a result
        """
        if self.do_xcom_push:  # type: ignore[attr-defined]
            values = result.keyed(self.pushed_keys)
            for key, value in values.items():
                ti.xcom_push(key=key, value=value)
            for key in self.pushed_keys:
                if key not in values:
                    log.warning("xcom_keys: the notebook handed out no result %r", key)
        return result.to_xcom()


def forget_earlier(ti: Any, keys: Iterable[str], log: Any) -> None:
    """Delete what an earlier try of a task returned; never raise.

    Airflow does so as a worker starts a task, but not if the task has started in the triggerer: after a clear the new
    try would show the results of the former one, also if it fails. Read in Airflow 3.3.2 (`ti_run`).
    """
    if ti.try_number == 1:
        return
    try:
        if xcom_of_task(ti, RETURNED) is not None:
            for key in (RETURNED, *keys, JOB_XCOM_KEY):
                delete_xcom_of_task(ti, key)
    except Exception as error:  # of any kind: the new try is what matters
        log.warning("What an earlier try returned stays until this one returns: %s", error)


def keys_of(multiple_outputs: bool, xcom_keys: Iterable[str]) -> tuple[str, ...]:
    """Return the names that have an XCom key of their own; see `HasResults`."""
    return tuple(dict.fromkeys((*(KEYS if multiple_outputs else ()), *xcom_keys)))


def valid_xcom_keys(value: Any) -> Iterator[str]:
    """Yield what is wrong with an argument `xcom_keys`."""
    if isinstance(value, str | Mapping) or not isinstance(value, Collection):
        yield f"{shown(value)} is of type {type(value).__name__}; it must be a list of names"
        return
    if len(value) > KEYS_MAX:
        yield f"{len(value)} names; at most {KEYS_MAX} can have an XCom key of their own"
    for name in value:
        if not isinstance(name, str) or not _KEY.fullmatch(name):
            yield f"{shown(name)} cannot be an XCom key: a letter, then at most 199 of A-Z a-z 0-9 _ - ."
        elif name in _RESERVED:
            yield f"{shown(name)} is the XCom key of something else"
