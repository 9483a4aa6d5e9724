"""The commit of the checkout, for records of what was run at it."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def git(*arguments: str) -> str:
    """Return what git prints for the checkout."""
    return subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout


def is_unchanged_since(revision: str, *paths: str) -> bool:
    """Return whether files are as they were at a commit, as `commit` names it. If it had a mark, they are not known."""
    command = ["git", "diff", "--quiet", revision, "--", *paths]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True).returncode == 0


@cache
def commit() -> str:
    """Return the commit that is tested, with a mark if files differ from it."""
    return git("rev-parse", "--short=9", "HEAD").strip() + ("+" if git("status", "--porcelain").strip() else "")
