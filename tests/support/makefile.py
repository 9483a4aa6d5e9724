"""Run make without running anything."""

from __future__ import annotations

import os
import subprocess

from tests.support.paths import CHECKOUT


def make(*arguments: str) -> str:
    """Return what make prints, without the variables of a make that runs these tests."""
    command = ["make", "--no-print-directory", *arguments]
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True).stdout


def dry_run(*arguments: str) -> str:
    """Return the commands that make would run on a clean clone."""
    return make("--always-make", "--dry-run", *arguments)
