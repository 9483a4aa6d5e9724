"""Each check is bounded, none keeps an independent one from being made, and a broken one breaks no other."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from airflow_provider_nbjob.doctor.report import TEXT_MAX, Finding, Status, as_json, has_passed, lines_of, one_line
from airflow_provider_nbjob.doctor.runner import Check, Problem, Remark, Skipped, run
from airflow_provider_nbjob.exceptions import ApiError
from airflow_provider_nbjob.masking import mask
from tests.support.patience import patient

REFUSED = ApiError("refused", "PERMISSION_DENIED")


def check(name: str, outcome: object = "fine", *needs: str, **options: bool) -> Check:
    def look() -> str:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome() if callable(outcome) else str(outcome)

    return Check(name, look, lambda error: f"mend {error}", needs, **options)


def found(*checks: Check, seconds: float = 10) -> list[Finding]:
    return list(run(checks, patient(seconds)))


def test_what_needs_a_failed_check_is_skipped_and_all_else_is_made():
    findings = found(
        check("a", REFUSED), check("b"), check("c", "", "a"), check("d", "", "b", "c"), check("e", "fine", "b")
    )
    assert findings == [
        Finding("a", Status.FAILED, "refused", "mend refused"),
        Finding("b", Status.PASSED, "fine"),
        Finding("c", Status.SKIPPED, "needs a"),
        Finding("d", Status.SKIPPED, "needs c"),
        Finding("e", Status.PASSED, "fine"),
    ]
    assert not has_passed(findings)


@pytest.mark.parametrize("outcome", [Skipped("not given"), Remark("odd", "look at it")])
def test_a_check_that_does_not_apply_and_one_with_a_remark_keep_none_from_being_made(outcome):
    findings = found(check("a", outcome), check("b", "fine", "a"))
    assert findings[1] == Finding("b", Status.PASSED, "fine")
    assert has_passed(findings)


def test_a_problem_fails_the_check():
    (finding,) = found(check("a", Problem("lacks it", "grant it")))
    assert finding == Finding("a", Status.FAILED, "lacks it", "grant it")


def test_an_optional_check_that_gets_no_answer_is_skipped():
    outcomes = [REFUSED, KeyError("x"), Problem("lacks it", "grant it")]
    findings = found(*(check("a", outcome, is_optional=True) for outcome in outcomes))
    assert [finding.status for finding in findings] == [Status.SKIPPED, Status.SKIPPED, Status.FAILED]


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("y"), OSError(24, "Too many open files"), RecursionError()]
)
def test_a_check_that_breaks_is_a_finding(error):
    findings = found(check("a", error), check("b"))
    assert [finding.status for finding in findings] == [Status.FAILED, Status.PASSED]
    assert type(error).__name__ in findings[0].detail


@pytest.fixture
def hang():
    """Return what hangs until the test has ended."""
    ended = threading.Event()
    yield lambda: str(ended.wait(patient(120)))
    ended.set()


@pytest.mark.parametrize("is_optional", [True, False])
def test_a_check_that_hangs_is_left_to_itself(hang: Callable[[], str], is_optional):
    findings = list(run([check("a", hang, is_optional=is_optional), check("b")], 0.2))
    assert [finding.status for finding in findings] == [
        Status.SKIPPED if is_optional else Status.FAILED,
        Status.PASSED,
    ]
    assert "it took longer than" in findings[0].detail


def test_findings_come_one_by_one(hang: Callable[[], str]):
    findings = run([check("a"), check("b", hang)], patient(100))
    assert next(findings).check == "a"


# --- what is printed ---


def test_a_finding_is_a_line_and_what_to_do_another():
    assert list(lines_of(Finding("list jobs", Status.FAILED, "refused", "grant it"))) == [
        "failed   list jobs        refused",
        "                          -> grant it",
    ]
    assert list(lines_of(Finding("quota", Status.SKIPPED, "none"))) == ["skipped  quota            none"]


@pytest.mark.parametrize(
    "text",
    [
        "a\nfailed   API",
        "\x1b[2Ja\x1b]0;title\x07",
        "a\r\x08b",
        "\u202ea\u2066b",
        "a\x9b1A",
        "\ud800a",
        "a\u2028b",
        "\0",
    ],
)
def test_an_answer_moves_no_cursor_and_makes_no_line(text):
    for line in lines_of(Finding("a", Status.FAILED, text, text)):
        assert line.isprintable()
        line.encode()


def test_a_long_answer_is_cut():
    assert len(one_line("x" * 10**6)) == TEXT_MAX + 3


def test_secrets_are_masked_in_lines_and_in_json():
    mask("s3cret-of-a-key")
    finding = Finding("a", Status.FAILED, "with s3cret-of-a-key in it", "not s3cret-of-a-key")
    assert "s3cret-of-a-key" not in "".join(lines_of(finding)) + as_json([finding])


def test_json_has_all_findings():
    findings = [Finding("a", Status.PASSED, "é"), Finding("b", Status.FAILED, "no", "do it")]
    assert json.loads(as_json(findings)) == {
        "passed": False,
        "checks": [
            {"check": "a", "status": "passed", "detail": "é", "fix": None},
            {"check": "b", "status": "failed", "detail": "no", "fix": "do it"},
        ],
    }
