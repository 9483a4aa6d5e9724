"""`docs/troubleshooting.md` has every error message of the package, and no other."""

from __future__ import annotations

import re

import pytest

from tests.support.messages import HOLE, LETTERS_MIN, messages, pattern_of, unread
from tests.support.paths import CHECKOUT
from tests.support.promises import code_cells

PAGE = CHECKOUT / "docs" / "troubleshooting.md"
DOCUMENTED = code_cells(PAGE.read_text())
# Errors whose text is made elsewhere; if the page quotes it, a part of it.
MADE_ELSEWHERE = {
    "doctor/options.py: InvalidJob([*first.values()])": "of the rules for arguments, with the names of flags",
    "doctor/options.py: InvalidJob(str(error).replace('api_endpoint', '--api-endpoint', 1))": "likewise",
    "hooks/permissions.py: ApiError(message, 'PERMISSION_DENIED')": "`The … was answered …: …`",
    "lifecycle/task_output.py: NotebookExecutionJobError(self._missing(returned))": "`Task … returned no results",
    "notebook/results.py: NotJson(handed.refused)": "`results[…] is dropped:`",
    "notebook/results.py: NotJson(_too_large(len(handed.value), max_bytes))": "`results[…] is dropped:`",
    "operators/notebook_execution_job.py: JobTimeout(end.message)": "`Notebook job … was … at the deadline`",
    "plugins/notebook_jobs/task_page.py: NotRendered(NO_PLACE)": "in the tab only",
    "rendering/renderer.py: NotRendered(_reason(errors, process.returncode))": "of the process that renders",
    "sensors/notebook_execution_job.py: JobLost(end.message)": "`… is gone: it was deleted. The last answer: …`",
}


def test_every_message_is_documented():
    patterns = [pattern_of(documented) for documented in DOCUMENTED]
    missing = [message for message in messages() if not any(p.fullmatch(message.text) for p in patterns)]
    assert not missing, "\n" + "\n".join(f"{m.module}:{m.line}: {m.text}" for m in missing)


@pytest.mark.parametrize("documented", DOCUMENTED)
def test_a_documented_message_is_one_of_the_package(documented):
    pattern = pattern_of(documented)
    assert any(pattern.fullmatch(message.text) for message in messages())


@pytest.mark.parametrize("documented", DOCUMENTED)
def test_a_documented_message_says_something(documented):
    assert len(re.findall("[a-zA-Z]", documented)) >= LETTERS_MIN


def test_other_errors_are_known():
    assert set(unread()) == set(MADE_ELSEWHERE)
    text = PAGE.read_text()
    assert not [quoted for quoted in MADE_ELSEWHERE.values() if quoted.startswith("`") and quoted not in text]


def test_messages_are_found():
    found = {message.text for message in messages()}
    assert {
        f"The extra of connection {HOLE} is not a JSON object",  # of an error
        f"{HOLE} is of type {HOLE}; it must be True or False",  # of a rule
        f"Cell {HOLE} raised {HOLE}: {HOLE}",  # a line of a text that is made before
        "notebook_execution_job, schedule: exactly one is required",  # a constant
    } <= found
