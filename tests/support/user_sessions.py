"""Sessions of pytest in a repository of a user, which is somewhere else than the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from tests.support.patience import patient

# Of this run of the tests, and nothing that a user's session should see.
_NOT_PASSED_ON = ("AIRFLOW", "NBJOB", "PYTEST", "STORAGE_EMULATOR", "COV_")


def user_environment(home: Path, **changes: str) -> dict[str, str]:
    """Return the environment of a user whose home is a folder, without the settings of this process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED_ON)}
    mark = {name: value for name, value in os.environ.items() if name == "NBJOB_TEST_RUN"}  # see `keeper`
    return {**kept, **mark, "HOME": str(home), "TMPDIR": str(home / "tmp"), **changes}


def start_session(
    repository: Path, *arguments: str, python: str = sys.executable, **variables: str
) -> subprocess.Popen[str]:
    """Start pytest in a repository; its home is beside the repository."""
    home = repository.with_name(f"{repository.name}-home")
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", "--junitxml", str(report_of(repository)), *arguments]
    return subprocess.Popen(
        command,
        cwd=repository,
        env=user_environment(home, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def report_of(repository: Path) -> Path:
    """Return the path of the report of a session."""
    return repository.with_name(f"{repository.name}.xml")


def run_session(
    repository: Path, *arguments: str, seconds: float = 120, **options: str
) -> tuple[Mapping[str, str], str]:
    """Run pytest in a repository; return the outcome of each test by its name, and all that was printed.

    An outcome is ``"passed"``, ``"failed"`` or ``"error"``, with the message after it.
    """
    with start_session(repository, *arguments, **options) as process:
        try:
            printed, _ = process.communicate(timeout=patient(seconds))
        finally:
            process.kill()
    if not report_of(repository).exists():
        return {}, printed
    outcomes = {}
    for case in ElementTree.parse(report_of(repository)).iter("testcase"):
        problems = [f"{each.tag.replace('failure', 'failed')}: {each.get('message')}" for each in case]
        outcomes[str(case.get("name"))] = problems[0] if problems else "passed"
    return outcomes, printed
