"""Run checks one after the other, each within a time, and skip those that need one that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from airflow_provider_nbjob.doctor.report import Finding, Status
from airflow_provider_nbjob.exceptions import NotebookExecutionJobError
from airflow_provider_nbjob.hooks.bounded_calls import within


class Check(NamedTuple):
    """A check.

    :param name: at most 16 characters
    :param look: returns what it found. It raises `Skipped`, `Remark`, `Problem`, or an error of this provider
    :param advice: returns what to do about an error of this provider
    :param needs: names of the checks that must not have failed, in their order
    :param is_optional: whether an error skips the check, as no task needs the answer
    """

    name: str
    look: Callable[[], str]
    advice: Callable[[NotebookExecutionJobError], str]
    needs: tuple[str, ...] = ()
    is_optional: bool = False


class Skipped(Exception):
    """A check does not apply, and the checks that need it can go on; the message says why."""


class Remark(Exception):
    """A check passed, but a person should know something.

    :param detail: the thing that was found
    :param fix: what to do
    """

    def __init__(self, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.fix = fix


class Problem(Remark):
    """A check failed; see `Remark`."""


def run(checks: Iterable[Check], seconds: float) -> Iterator[Finding]:
    """Yield the finding of each check as soon as there is one.

    :param seconds: that each check may take. One that takes longer has failed, and is left to itself
    """
    unmet: set[str] = set()
    for check in checks:
        if missing := next((need for need in check.needs if need in unmet), None):
            finding = Finding(check.name, Status.SKIPPED, f"needs {missing}")
            unmet.add(check.name)
        else:
            finding = _finding(check, seconds)
            if finding.status is Status.FAILED:
                unmet.add(check.name)
        yield finding


def _finding(check: Check, seconds: float) -> Finding:
    try:
        return Finding(check.name, Status.PASSED, within(seconds, f"finish the check {check.name!r}", check.look))
    except Skipped as skipped:
        return Finding(check.name, Status.SKIPPED, str(skipped))
    except Problem as problem:
        return Finding(check.name, Status.FAILED, str(problem), problem.fix)
    except Remark as remark:
        return Finding(check.name, Status.WARNING, str(remark), remark.fix)
    except Exception as error:
        return _failure(check, error)


def _failure(check: Check, error: Exception) -> Finding:
    """Return the finding for an error, of any kind: a check that breaks must not keep the others from being made."""
    if isinstance(error, NotebookExecutionJobError):
        detail, fix = str(error), check.advice(error)
    else:
        detail, fix = f"{type(error).__name__}: {error}", "Report this line as a defect of the provider."
    if check.is_optional:
        return Finding(check.name, Status.SKIPPED, f"it could not be found out: {detail}")
    return Finding(check.name, Status.FAILED, detail, fix)
