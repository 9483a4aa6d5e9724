"""Match jobs to the create requests that made them, by a label.

The id of a job does not prove its origin: a run that was deleted and made again, `airflow dags test` on the same date,
or a person may have used it before. So each create puts a label on its job that no other create has. This module
imports neither Airflow nor a package of Google's.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MARK_LABEL = "airflow-submission"
_HASH = "[0-9a-f]{8,12}"
_MARK = re.compile(
    rf"(?P<nonce>[0-9a-f]{{12}})(?:-(?P<task>{_HASH})-(?P<run>{_HASH})-(?P<attempt>{_HASH})"
    r"-(?P<max_tries>[0-9]{1,9})(?:-(?P<clears>[0-9]{1,9}))?)?"
)


def new_nonce() -> str:
    """Return a random text that identifies one create; all attempts at this create share it."""
    return secrets.token_hex(6)


@dataclass(frozen=True)
class Mark:
    """The value of a job's label `MARK_LABEL`, which describes the create that made the job.

    A hook that is used without an operator knows only the nonce.

    :param nonce: random text of the create, see `new_nonce`
    :param task: hash of the task instance, the same for all starts of its run
    :param run: hash of the start of the run
    :param attempt: hash of the try, shared by all processes that run the same try
    :param max_tries: `max_tries` of Airflow's task instance; a clear of the task changes it, a retry does not
    :param clears: number of clears of any task in the run
    """

    nonce: str
    task: str | None = None
    run: str | None = None
    attempt: str | None = None
    max_tries: int | None = None
    clears: int | None = None

    @property
    def label(self) -> str:
        """Return the value of the label: at most 63 lowercase letters, digits and hyphens."""
        parts = (self.nonce, self.task, self.run, self.attempt, self.max_tries, self.clears)
        return "-".join(str(part) for part in parts if part is not None)

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> Mark | None:
        """Read the mark from a job's labels; return None if the label is missing or malformed.

        A job without a mark may still be the task's own: the API was observed to replace the labels of a job by those
        of its runtime template.
        """
        match = _MARK.fullmatch(labels.get(MARK_LABEL, ""))
        if not match:
            return None
        numbers = {name: None if match[name] is None else int(match[name]) for name in ("max_tries", "clears")}
        return cls(match["nonce"], match["task"], match["run"], match["attempt"], **numbers)


# Attributes that have the same value in all instances of a mapped task.
_SHARED_BY_INSTANCES = frozenset({"dag_id", "run_id", "task_id", "try_number", "max_tries"})


def problems_of_mapped_id(template: Any) -> list[str]:
    """Check the job id of a mapped task before it is rendered.

    :param template: `notebook_execution_job_id` as passed to `.partial(...)`
    :return: one message if all instances would share the id; otherwise empty
    """
    if not template or not isinstance(template, str) or _may_depend_on_index(template):
        return []
    return [
        f"notebook_execution_job_id: {template!r} is the same for all instances of this mapped task, and a job's id can"
        " be used once only; put the index into it, such as 'train-{{ ti.map_index }}', or leave it out"
    ]


def _may_depend_on_index(template: str) -> bool:
    from jinja2 import Environment, TemplateSyntaxError, nodes  # already imported by Airflow

    try:
        tree = Environment().parse(template)  # noqa: S701 - it is only parsed
    except TemplateSyntaxError:
        return True  # rendering reports the error
    names = [name.name for name in tree.find_all(nodes.Name)]
    harmless = [
        node
        for node in tree.find_all(nodes.Getattr)
        if isinstance(node.node, nodes.Name)
        and node.node.name in ("ti", "task_instance")
        and node.attr in _SHARED_BY_INSTANCES
    ]
    telling = sum(name in ("ti", "task_instance", "task", "params", "map_index") for name in names)
    return telling > len(harmless)
