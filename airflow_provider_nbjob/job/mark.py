"""Which job is the answer to which create: the mark that a job carries, and the ids that are tried.

A job's id alone proves nothing: a run that was deleted and made again, `airflow dags test` on the same date, or a
person may have used it before. So each create puts a label on its job that no other create has. Pure: knows neither
Airflow nor Google.
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
    """Return what tells one create from all others; all attempts at one create share it."""
    return secrets.token_hex(6)


@dataclass(frozen=True)
class Mark:
    """What a job's label `MARK_LABEL` says of the create that made it.

    A hook that is used without an operator knows the nonce only.

    :param nonce: of the create
    :param task: hash of the task instance, whatever the start of its run
    :param run: hash of the start of its run
    :param attempt: hash of the try: processes that run the same try share it
    :param max_tries: Airflow's, which a clear of the task changes and a retry does not
    :param clears: number of clears in the run, of whichever task
    """

    nonce: str
    task: str | None = None
    run: str | None = None
    attempt: str | None = None
    max_tries: int | None = None
    clears: int | None = None

    @property
    def label(self) -> str:
        """The label's value: at most 63 lowercase letters, digits and hyphens."""
        parts = (self.nonce, self.task, self.run, self.attempt, self.max_tries, self.clears)
        return "-".join(str(part) for part in parts if part is not None)

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> Mark | None:
        """Read the mark from a job's labels; return None if there is none, or none that can be read.

        The API has been seen to replace a job's labels by those of its runtime template, so a job without a mark may
        still be ours.
        """
        match = _MARK.fullmatch(labels.get(MARK_LABEL, ""))
        if not match:
            return None
        numbers = {name: None if match[name] is None else int(match[name]) for name in ("max_tries", "clears")}
        return cls(match["nonce"], match["task"], match["run"], match["attempt"], **numbers)


# What is the same for all instances of a mapped task.
_SHARED_BY_INSTANCES = frozenset({"dag_id", "run_id", "task_id", "try_number", "max_tries"})


def problems_of_mapped_id(template: Any) -> list[str]:
    """Return what is wrong with the own job id of a mapped task, as far as its text tells before it is rendered.

    :param template: `notebook_execution_job_id` as it was given to `.partial(...)`
    """
    if not template or not isinstance(template, str) or _may_depend_on_index(template):
        return []
    return [
        f"notebook_execution_job_id: {template!r} is the same for all instances of this mapped task, and a job's id can"
        " be used once only; put the index into it, such as 'train-{{ ti.map_index }}', or leave it out"
    ]


def _may_depend_on_index(template: str) -> bool:
    from jinja2 import Environment, TemplateSyntaxError, nodes  # Airflow has loaded it already

    try:
        tree = Environment().parse(template)  # noqa: S701 - it is only parsed
    except TemplateSyntaxError:
        return True  # rendering tells
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
