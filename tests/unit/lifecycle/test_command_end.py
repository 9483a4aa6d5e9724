"""What is done for a job at the end of a command that Ctrl-C ended while nobody waited for the job."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.patience import patient

BEGIN = """
from airflow_provider_nbjob.lifecycle.command_end import at_the_end, taken_over

def act():
    print("stopped a", flush=True)

at_the_end("a", act)
"""


def command(body: str) -> subprocess.CompletedProcess[str]:
    """Run what a command does between the operator and its end."""
    return subprocess.run(
        [sys.executable, "-c", BEGIN + body], capture_output=True, text=True, timeout=patient(60), check=False
    )


@pytest.mark.parametrize("body", ["raise KeyboardInterrupt", "pass"])
def test_a_job_that_nobody_took_over_is_stopped_at_the_end(body):
    ended = command(body)
    assert ended.stdout == "stopped a\n"
    assert bool(ended.returncode) == (body != "pass")


def test_a_job_that_was_taken_over_is_left_alone():
    assert command("taken_over('a'); raise KeyboardInterrupt").stdout == ""


def test_one_that_cannot_be_stopped_keeps_no_other_from_it():
    ended = command("at_the_end('b', lambda: 1 / 0)")
    assert ended.stdout.splitlines()[-1] == "stopped a"
    assert "ZeroDivisionError" in ended.stdout + ended.stderr
