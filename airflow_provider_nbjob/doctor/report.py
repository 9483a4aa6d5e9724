"""The findings of the checks, as lines for a person or as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from airflow_provider_nbjob.masking import redact

TEXT_MAX = 1200  # characters of a text, some of which are answers of services

# An answer of a service must not move the cursor of a terminal, or add a line that looks like a finding.
_NOT_PRINTED = re.compile("[\x00-\x20\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]+")


class Status(Enum):
    """The outcome of a check."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check. Its texts are masked, and are single lines.

    :param check: name of the check
    :param detail: the thing that was found, or the reason why the check was skipped
    :param fix: what to do; empty if there is nothing to do
    """

    check: str
    status: Status
    detail: str
    fix: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", one_line(self.detail))
        object.__setattr__(self, "fix", one_line(self.fix))


def one_line(text: str) -> str:
    """Return a text without secrets, as a single line of at most `TEXT_MAX` characters."""
    line = _NOT_PRINTED.sub(" ", str(redact(text))).strip()
    return line if len(line) <= TEXT_MAX else f"{line[:TEXT_MAX]}..."


def lines_of(finding: Finding) -> Iterator[str]:
    """Yield the line of a finding, and below it the one that says what to do, if there is something."""
    yield f"{finding.status.value:<9}{finding.check:<17}{finding.detail}"
    if finding.fix:
        yield f"{'':<9}{'':<17}-> {finding.fix}"


def as_json(findings: Sequence[Finding]) -> str:
    """Return all findings as one JSON object."""
    checks = [
        {"check": each.check, "status": each.status.value, "detail": each.detail, "fix": each.fix or None}
        for each in findings
    ]
    return json.dumps({"passed": has_passed(findings), "checks": checks}, indent=2)


def has_passed(findings: Sequence[Finding]) -> bool:
    """Return whether no check failed. A check is skipped for lack of another one only if that one failed."""
    return all(finding.status is not Status.FAILED for finding in findings)
